// SPDX-License-Identifier: Apache-2.0
//! Names: which are allowed, and where they lead.

use super::{error::Fault, file::Name};

/// As long as a Kubernetes label.
const LONGEST: usize = 63;

/// What names of one kind lead to: their index.
pub(super) struct Names<'a> {
    kind: &'static str,
    names: Vec<&'a str>,
}

impl<'a> Names<'a> {
    /// The names of one kind, each valid and different from the others.
    pub(super) fn of(kind: &'static str, names: impl Iterator<Item = &'a Name>) -> Result<Self, Fault> {
        let mut known = Self { kind, names: Vec::new() };
        for name in names {
            valid(name)?;
            if known.names.contains(&name.get_ref().as_str()) {
                return Err(Fault::at(name.span(), format!("there are two {kind} `{}`", name.get_ref())));
            }
            known.names.push(name.get_ref());
        }
        Ok(known)
    }

    /// Where `name` leads.
    pub(super) fn find(&self, name: &Name) -> Result<usize, Fault> {
        self.names.iter().position(|known| known == name.get_ref()).ok_or_else(|| {
            let (kind, known) = (self.kind, list(&self.names));
            Fault::at(name.span(), format!("`{}` is not among the {kind}: {known}", name.get_ref()))
        })
    }

    /// Where `name` leads; the only one there is when it was left out.
    pub(super) fn find_or_only(
        &self,
        name: Option<&Name>,
        key: &str,
        around: std::ops::Range<usize>,
    ) -> Result<usize, Fault> {
        match name {
            Some(name) => self.find(name),
            None if self.names.len() == 1 => Ok(0),
            None => {
                let (kind, known) = (self.kind, list(&self.names));
                Err(Fault::at(around, format!("`{key}` is missing, one of the {kind}: {known}")))
            }
        }
    }
}

/// Whether a name can be shown in a table, a drawing and a file name.
pub(super) fn valid(name: &Name) -> Result<(), Fault> {
    let text = name.get_ref();
    let problem = if text.trim().is_empty() {
        "a name must not be empty"
    } else if text.chars().count() > LONGEST {
        "a name may have at most 63 characters"
    } else if text.chars().any(char::is_control) {
        "a name must not contain control characters"
    } else {
        return Ok(());
    };
    Err(Fault::at(name.span(), problem))
}

/// `a, b, c`, cut when there are very many.
pub(super) fn list(names: &[&str]) -> String {
    const SHOWN: usize = 12;
    if names.is_empty() {
        return "there are none".to_owned();
    }
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
}
