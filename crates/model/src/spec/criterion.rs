//! Specs and their criteria, as they are declared.

use crate::fingerprint::{Class, Fingerprint};
use crate::manifest::Location;

use super::{CriterionNumber, Reference, Requirement, SpecId};

/// A spec: what is wanted of one part of a project, and by what it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Its name.
    pub id: SpecId,
    /// What it is about, in a few words.
    pub title: String,
    /// What it is for.
    pub intent: String,
    /// Its criteria, by number.
    pub criteria: Vec<Criterion>,
    /// Where it is named.
    pub at: Location,
}

/// One thing that has to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Criterion {
    /// The spec that it is of.
    pub spec: SpecId,
    /// Which one of them.
    pub number: CriterionNumber,
    /// What has to hold.
    pub text: String,
    /// What shows that it does.
    pub proof: Proof,
    /// What its tests need.
    pub requires: Vec<Requirement>,
    /// Where it is declared.
    pub at: Location,
}

/// What shows that a criterion holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// These tests, all of them.
    Tests(Vec<Cited>),
    /// Nothing does yet, and why.
    Gap(String),
}

/// A test that a criterion names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cited {
    /// Which test.
    pub reference: Reference,
    /// Where it is named.
    pub at: Location,
}

impl Criterion {
    /// Its full name: `cart.3`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{}", self.spec, self.number)
    }

    /// The tests that it names.
    #[must_use]
    pub fn tests(&self) -> &[Cited] {
        match &self.proof {
            Proof::Tests(tests) => tests,
            Proof::Gap(_) => &[],
        }
    }

    /// What it says, as leaves: what differs from what its tests last passed for is drift.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.text)
    }
}

/// The leaves of a criterion that says this.
pub(super) fn fingerprint(text: &str) -> Fingerprint {
    let mut leaves = Fingerprint::default();
    leaves.insert_value("text", Class::Report, text);
    leaves
}
