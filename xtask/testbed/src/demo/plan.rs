// SPDX-License-Identifier: Apache-2.0
//! Reads what an agent's CLI says in JSON: is the Service in force as it should be? Pure.
//!
//! An error says what is still different, so that a wait that fails names its reason.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::parameters::SERVICE;

/// Checks the answer of `evenkeel services -o json`.
pub(super) fn check(answer: &Value, balance: &str, endpoints: usize) -> Result<()> {
    let name = format!("{}/{}", SERVICE.0, SERVICE.1);
    let services = answer.get("services").unwrap_or(answer).as_array().context("no list of services")?;
    let service = services.iter().find(|service| service["name"] == name.as_str());
    let service = service.with_context(|| format!("{name} is not there"))?;
    if service["balance"] != balance {
        bail!("balance is {}", service["balance"]);
    }
    let port = service["ports"].get(0).with_context(|| format!("{name} has no ports"))?;
    let path = if balance == "request" { "request" } else { "kernel" };
    if port["path"] != path {
        bail!("the path is {}", port["path"]);
    }
    if port["endpoints"] != endpoints {
        bail!("{} endpoints", port["endpoints"]);
    }
    Ok(())
}

/// Checks the answer of `evenkeel status -o json`: all that this agent knows is in the maps of its kernel.
pub(super) fn in_the_maps(status: &Value) -> Result<()> {
    let (knows, says) = (status["revision"].as_u64(), status["map_revision"].as_u64());
    ensure!(knows.is_some() && says >= knows, "its maps are at revision {says:?} of {knows:?}");
    Ok(())
}

/// Checks the answer of `evenkeel status -o json`: the kernel hands connects to this agent.
pub(super) fn serves(status: &Value) -> Result<()> {
    match &status["kernel"]["stance"] {
        Value::String(stance) if stance == "serve" => Ok(()),
        other => bail!("its stance is {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plan_is_in_force_only_when_all_of_it_is() {
        let plan = |balance: &str, path: &str, endpoints: u32| json!({ "services": [{ "name": "demo/echo", "balance": balance, "ports": [{ "path": path, "endpoints": endpoints }] }] });
        check(&plan("request", "request", 12), "request", 12).expect("in force");
        check(&plan("connection", "kernel", 8), "connection", 8).expect("in force");
        let still =
            [plan("connection", "kernel", 12), plan("request", "kernel", 12), plan("request", "request", 8)];
        for old in still.iter().chain([&json!({ "services": [] }), &json!(null)]) {
            assert!(check(old, "request", 12).is_err(), "{old}");
        }
    }

    #[test]
    fn maps_that_are_behind_are_not_in_force() {
        in_the_maps(&json!({ "revision": 3, "map_revision": 3 })).expect("in force");
        for behind in [json!({ "revision": 3, "map_revision": 2 }), json!({ "revision": 3 }), json!({})] {
            assert!(in_the_maps(&behind).is_err(), "{behind}");
        }
    }

    #[test]
    fn an_agent_serves_when_its_heartbeat_counts() {
        serves(&json!({ "kernel": { "stance": "serve" } })).expect("serves");
        assert!(serves(&json!({ "kernel": { "stance": "kernel" } })).is_err());
        assert!(serves(&json!({})).is_err());
    }
}
