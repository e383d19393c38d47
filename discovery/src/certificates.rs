// SPDX-License-Identifier: Apache-2.0
//! `evenkeel-discovery certificates`: a certificate authority and discovery's server certificate, kept as objects in the
//! cluster. Run on install and once a week; does nothing when nothing is due.
//!
//! | object | holds | read by |
//! |---|---|---|
//! | Secret, `--ca-secret` | the authority: certificate and key | only this command |
//! | ConfigMap, `--config-map` | `ca.crt`: the authorities that clients shall trust | agents |
//! | Secret, `--secret` | `tls.crt`, `tls.key`: the server certificate | discovery |
//!
//! What must always be true:
//! * a server certificate is written only after clients have been told of its authority;
//! * any number of these may run at once: each write says which version it replaces, and who loses reads again;
//! * objects that this command did not make are left alone, and named;
//! * what is there is judged as a client will judge it, with the verifier that the agents use.
//!
//! | file | what it is |
//! |---|---|
//! | `authority` | keys and certificates: pure, the time is an argument |
//! | `objects` | the same as Kubernetes objects |
//!
//! Deliberately not here: client certificates, and authorities of others. Who has cert-manager uses that instead.

mod authority;
mod objects;

use std::fmt;
use std::time::SystemTime;

use clap::Args;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, PostParams};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::authority::{Authority, Problem, ServerCertificate};

/// Losing a race this often is no race any more.
const ATTEMPTS: usize = 10;

/// Flags of `evenkeel-discovery certificates`.
#[derive(Clone, Debug, Args)]
pub struct CertificatesArgs {
    /// Namespace of all objects
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE")]
    pub namespace: String,
    /// Secret of the server certificate, for --tls-cert and --tls-key of discovery
    #[arg(long, value_name = "NAME", default_value = "evenkeel-discovery-tls")]
    pub secret: String,
    /// Secret of the certificate authority; nobody but this command needs to read it
    #[arg(long, value_name = "NAME", default_value = "evenkeel-ca")]
    pub ca_secret: String,
    /// ConfigMap of the authorities that clients trust, for --discovery-ca of agents
    #[arg(long, value_name = "NAME", default_value = "evenkeel-ca")]
    pub config_map: String,
    /// Name or address by which clients reach discovery; may be given several times
    #[arg(long = "dns-name", value_name = "NAME", required = true)]
    pub dns_names: Vec<String>,
}

/// Why the certificates are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// The API server refused or is away.
    #[error("{object}: cannot {operation}: {source}")]
    Api {
        /// What was tried: get, create or replace.
        operation: &'static str,
        /// Kind, namespace and name.
        object: ObjectName,
        /// What was said.
        source: Box<kube::Error>,
    },
    /// An object has the name of ours.
    #[error(
        "{object} was not made by this command and is left alone: give another name, delete it, or do not run this command \
         and bring the certificates yourself"
    )]
    NotOurs {
        /// Kind, namespace and name.
        object: ObjectName,
    },
    /// The authority cannot be used. It is not replaced by itself: clients trust it.
    #[error("{object}: {problem}; delete it to have a new one made")]
    Authority {
        /// Kind, namespace and name.
        object: ObjectName,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A name cannot be certified, or the system has no randomness.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] Problem),
    /// Somebody else writes all the time.
    #[error("{object}: changed by somebody else {ATTEMPTS} times in a row")]
    Contended {
        /// Kind, namespace and name.
        object: ObjectName,
    },
}

/// Kind, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    kind: &'static str,
    namespace: Box<str>,
    name: Box<str>,
}

/// What was done, object by object.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report(Vec<(ObjectName, &'static str)>);

/// Sees to it that all objects are there and good for some time to come.
///
/// # Errors
/// See [`CertificatesError`]; each names the object.
pub async fn run(
    client: Client,
    args: &CertificatesArgs,
    now: SystemTime,
) -> Result<Report, CertificatesError> {
    let CertificatesArgs { namespace, secret, ca_secret, config_map, dns_names } = args;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let config_maps: Api<ConfigMap> = Api::namespaced(client, namespace);
    let mut report = Report::default();

    let kept = Kept { api: &secrets, name: object("Secret", namespace, ca_secret) };
    let (authority, done) = kept
        .ensure(|found: Option<&Secret>| {
            let Some(found) = found else {
                let made = Authority::make(now)?;
                return Ok((Some(objects::of_authority(ca_secret, &made)), made));
            };
            let problem = |problem| CertificatesError::Authority { object: kept.name.clone(), problem };
            let authority = objects::authority(found).map_err(problem)?;
            if !authority.is_due(now).map_err(problem)? {
                return Ok((None, authority));
            }
            let made = authority.succeed(now)?;
            Ok((Some(objects::of_authority(ca_secret, &made)), made))
        })
        .await?;
    report.0.push((kept.name.clone(), done));

    // Clients first: a server that shows what they do not know yet would be refused.
    let trusted = authority.trusted(now);
    let kept = Kept { api: &config_maps, name: object("ConfigMap", namespace, config_map) };
    let ((), done) = kept
        .ensure(|found: Option<&ConfigMap>| {
            let current = found.and_then(objects::trusted) == Some(trusted.as_str());
            Ok(((!current).then(|| objects::of_trusted(config_map, &trusted)), ()))
        })
        .await?;
    report.0.push((kept.name.clone(), done));

    let kept = Kept { api: &secrets, name: object("Secret", namespace, secret) };
    let ((), done) = kept
        .ensure(|found: Option<&Secret>| {
            let good = found.and_then(objects::server_certificate);
            let due =
                good.map_or(Some(Problem::Missing), |found| found.due(&authority, dns_names, now).err());
            let Some(why) = due else { return Ok((None, ())) };
            tracing::info!(%why, "a server certificate is due");
            let made = ServerCertificate::make(&authority, dns_names, now)?;
            Ok((Some(objects::of_server_certificate(secret, &made, &trusted)), ()))
        })
        .await?;
    report.0.push((kept.name, done));
    Ok(report)
}

/// An object that this command keeps.
struct Kept<'a, K> {
    api: &'a Api<K>,
    name: ObjectName,
}

impl<K> Kept<'_, K>
where
    K: Resource<DynamicType = ()> + Clone + fmt::Debug + DeserializeOwned + Serialize,
{
    /// Reads the object, asks `decide` what it should be (`None`: as it is), and writes that. If somebody else was faster,
    /// all of it again. Returns what `decide` made of the object that is now there, and what was done.
    async fn ensure<T>(
        &self,
        mut decide: impl FnMut(Option<&K>) -> Result<(Option<K>, T), CertificatesError>,
    ) -> Result<(T, &'static str), CertificatesError> {
        let failed = |operation| {
            move |source| CertificatesError::Api {
                operation,
                object: self.name.clone(),
                source: Box::new(source),
            }
        };
        for _ in 0..ATTEMPTS {
            let found = self.api.get_opt(&self.name.name).await.map_err(failed("get"))?;
            if found.as_ref().is_some_and(|found| !objects::is_ours(found)) {
                return Err(CertificatesError::NotOurs { object: self.name.clone() });
            }
            let (wanted, value) = decide(found.as_ref())?;
            let (written, done) = match (wanted, found) {
                (None, _) => return Ok((value, "unchanged")),
                (Some(wanted), None) => {
                    (self.api.create(&PostParams::default(), &wanted).await.map_err(failed("create")), "made")
                }
                (Some(mut wanted), Some(found)) => {
                    // Names the version that is replaced: another writer's is not overwritten.
                    wanted.meta_mut().resource_version = found.meta().resource_version.clone();
                    let parameters = PostParams::default();
                    let written = self.api.replace(&self.name.name, &parameters, &wanted).await;
                    (written.map_err(failed("replace")), "renewed")
                }
            };
            match written {
                Ok(_) => return Ok((value, done)),
                Err(CertificatesError::Api { source, .. }) if is_lost_race(&source) => {}
                Err(error) => return Err(error),
            }
        }
        Err(CertificatesError::Contended { object: self.name.clone() })
    }
}

/// Made, changed or deleted by somebody else since it was read.
fn is_lost_race(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status)
        if status.is_already_exists() || status.is_conflict() || status.is_not_found())
}

fn object(kind: &'static str, namespace: &str, name: &str) -> ObjectName {
    ObjectName { kind, namespace: namespace.into(), name: name.into() }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(object, done)| writeln!(f, "{object}: {done}"))
    }
}

#[cfg(test)]
mod tests;
