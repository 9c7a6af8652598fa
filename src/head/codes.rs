//! Class codes are permanent, because downstream machines act on the number.

use std::collections::BTreeMap;

use super::Class;

/// Every code that a task has ever assigned, by label.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassCodes {
    by_label: BTreeMap<Box<str>, u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeConflict {
    #[error(
        "class {label:?} has code {found}, but earlier versions gave it {expected}; codes never \
         change"
    )]
    Moved { label: Box<str>, expected: u32, found: u32 },
    #[error(
        "class {label:?} takes code {code}, which earlier versions gave to {owner:?}; codes are \
         never reused"
    )]
    Reused { label: Box<str>, code: u32, owner: Box<str> },
}

impl ClassCodes {
    /// Checks that these classes respect every code assigned so far.
    pub fn check(&self, classes: &[Class]) -> Result<(), CodeConflict> {
        for class in classes {
            let label = class.label.clone();
            match self.by_label.get(&class.label) {
                Some(&expected) if expected != class.code => {
                    return Err(CodeConflict::Moved { label, expected, found: class.code });
                }
                Some(_) => {}
                None => {
                    if let Some((owner, _)) =
                        self.by_label.iter().find(|(_, code)| **code == class.code)
                    {
                        let owner = owner.clone();
                        return Err(CodeConflict::Reused { label, code: class.code, owner });
                    }
                }
            }
        }
        Ok(())
    }

    pub fn record(&mut self, classes: &[Class]) {
        self.by_label.extend(classes.iter().map(|class| (class.label.clone(), class.code)));
    }

    /// Returns the label's code; a new label gets one above the highest ever assigned.
    pub fn code_for(&mut self, label: &str) -> u32 {
        if let Some(&code) = self.by_label.get(label) {
            return code;
        }
        let code = self.by_label.values().max().map_or(1, |highest| highest + 1);
        self.by_label.insert(label.into(), code);
        code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(label: &str, code: u32) -> Class {
        Class { label: label.into(), code, good: false }
    }

    #[test]
    fn moved_and_reused_codes_are_rejected_new_ones_accepted() {
        let mut codes = ClassCodes::default();
        codes.record(&[class("ok", 1), class("scratch", 2)]);
        codes.record(&[class("ok", 1)]);
        assert_eq!(codes.check(&[class("ok", 1), class("dent", 3)]), Ok(()));
        assert!(matches!(codes.check(&[class("ok", 2)]), Err(CodeConflict::Moved { .. })));
        assert!(
            matches!(codes.check(&[class("dent", 2)]), Err(CodeConflict::Reused { .. })),
            "the code of a class that was left out stays reserved"
        );
        assert_eq!(
            (codes.code_for("scratch"), codes.code_for("dent"), codes.code_for("dent")),
            (2, 3, 3)
        );
    }
}
