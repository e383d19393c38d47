// SPDX-License-Identifier: Apache-2.0
//! What is wrong with a configuration: the field, what it holds, what it may hold.
//!
//! One type for all configurations here, so that whoever reads a user's text can put the place (file, object, key) in
//! front of it. A configuration is checked once, where it is taken; afterwards nothing asks again.

/// A field that holds what it must not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, but must be {wanted}")]
pub struct Invalid {
    /// The field, by its path in the configuration: `success_rate.stdev_factor`.
    pub field: &'static str,
    /// What it holds.
    pub value: String,
    /// What it may hold, in words.
    pub wanted: &'static str,
}

/// `Ok` when `good`, else the field and what it holds.
pub(crate) fn check(
    good: bool,
    field: &'static str,
    value: impl std::fmt::Debug,
    wanted: &'static str,
) -> Result<(), Invalid> {
    if good { Ok(()) } else { Err(Invalid { field, value: format!("{value:?}"), wanted }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_field_value_and_what_was_wanted() {
        let error = check(false, "enter_percent", 101, "at most 100").unwrap_err();
        assert_eq!(error.to_string(), "enter_percent is 101, but must be at most 100");
        assert_eq!(check(true, "enter_percent", 100, "at most 100"), Ok(()));
    }
}
