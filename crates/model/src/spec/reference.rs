//! References to tests: `cargo:shop::checkout::a_cart_is_paid`.

use serde::{Deserialize, Serialize};

use crate::manifest::format::{Format, Malformed, in_schema};
use crate::manifest::nearest;

/// What runs tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runner {
    /// Tests of Rust: by cargo-nextest, or by `cargo test` where that is not installed.
    Cargo,
    /// Tests of Python.
    Pytest,
    /// Tests of Go.
    Go,
    /// Tests of JavaScript and TypeScript.
    Vitest,
    /// Any command: what ends well has passed.
    Command,
}

impl Runner {
    /// All runners.
    pub const ALL: [Self; 5] = [Self::Cargo, Self::Pytest, Self::Go, Self::Vitest, Self::Command];

    /// Its name in references.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cargo => "cargo",
            Self::Pytest => "pytest",
            Self::Go => "go",
            Self::Vitest => "vitest",
            Self::Command => "command",
        }
    }

    /// The runner of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|runner| runner.name() == name)
    }

    /// How a reference to one of its tests is written.
    fn example(self) -> &'static str {
        match self {
            Self::Cargo => "cargo:shop::checkout::a_cart_is_paid",
            Self::Pytest => "pytest:tests/test_cart.py::test_total",
            Self::Go => "go:example.com/shop/cart:TestTotal",
            Self::Vitest => "vitest:src/cart.test.ts:cart > adds prices",
            Self::Command => "command:./check-links docs",
        }
    }

    /// What parts the file or package of a test from its name.
    pub(super) fn separator(self) -> &'static str {
        match self {
            Self::Cargo | Self::Pytest => "::",
            Self::Go | Self::Vitest => ":",
            Self::Command => "",
        }
    }
}

impl std::fmt::Display for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// A reference to a test: a runner, and what it calls the test.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    /// What runs it.
    pub runner: Runner,
    /// What the runner calls it.
    pub target: String,
}

impl Reference {
    /// A reference to what a runner calls so.
    #[must_use]
    pub fn new(runner: Runner, target: impl Into<String>) -> Self {
        Self { runner, target: target.into() }
    }

    /// What reports call the test: the name of its class or package, `::`, and its own.
    #[must_use]
    pub fn key(&self) -> String {
        let target = &self.target;
        match self.runner {
            Runner::Cargo | Runner::Command => target.clone(),
            Runner::Pytest => super::runner::pytest::key(target),
            Runner::Go | Runner::Vitest => match target.split_once(':') {
                Some((suite, name)) => format!("{suite}::{name}"),
                None => target.clone(),
            },
        }
    }
}

impl Format for Reference {
    const NAME: &'static str = "test-reference";
    const PATTERN: Option<&'static str> = Some("^(cargo|pytest|go|vitest|command):\\S[\\s\\S]*$");
    const DESCRIPTION: &'static str = "A test: its runner, and what the runner calls it.";
    const EXAMPLE: &'static str = "cargo:shop::checkout::a_cart_is_paid";
    fn parse(text: &str) -> Result<Self, Malformed> {
        let bad = |what: String| Malformed::new("bad-test-reference", what);
        let runners = || Runner::ALL.map(Runner::name);
        let parts = text.split_once(':').filter(|(_, target)| !target.starts_with(':'));
        let Some((name, target)) = parts else {
            let meant = if text.contains("::") { format!("cargo:{text}") } else { Self::EXAMPLE.to_owned() };
            return Err(bad(format!("`{text}` does not say what runs it"))
                .why(format!("a reference begins with its runner: {}", runners().join(", ")))
                .hint(format!("such as `{meant}`")));
        };
        let Some(runner) = Runner::parse(name) else {
            let hint = match nearest(name, runners()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there is: {}; any other is started by `command:`", runners().join(", ")),
            };
            return Err(bad(format!("there is no runner `{name}`")).hint(hint).range(0..name.len()));
        };
        let has_parts = match target.split_once(runner.separator()) {
            Some((suite, test)) => !suite.is_empty() && !test.is_empty(),
            None => false,
        };
        if target.trim() != target
            || target.contains(['\0', '\n'])
            || (runner != Runner::Command && !has_parts)
            || target.is_empty()
        {
            return Err(bad(format!("`{text}` does not name a test of {runner}"))
                .hint(format!("such as `{}`", runner.example())));
        }
        Ok(Self::new(runner, target))
    }
}

impl TryFrom<String> for Reference {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        Self::parse(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{}:{}", self.runner, self.target))
    }
}

in_schema!(Reference);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn each_runner_names_tests_in_its_own_way() {
        for (text, key) in [
            ("cargo:shop::checkout::a::b", "shop::checkout::a::b"),
            ("pytest:tests/test_cart.py::TestCart::test_sum[1-2]", "tests.test_cart.TestCart::test_sum[1-2]"),
            ("go:example.com/shop/cart:TestSum/two", "example.com/shop/cart::TestSum/two"),
            ("vitest:src/a.test.ts:cart > 1: adds", "src/a.test.ts::cart > 1: adds"),
            ("command:./check a::b", "./check a::b"),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!((reference.to_string().as_str(), reference.key().as_str()), (text, key));
        }
        for runner in Runner::ALL {
            assert_eq!(Reference::parse(runner.example()).unwrap().runner, runner);
        }
    }

    #[test]
    fn what_names_no_test_is_refused_with_a_hint() {
        for (text, hint) in [
            ("a_cart_is_paid", "such as `cargo:shop::checkout::a_cart_is_paid`"),
            ("shop::a", "such as `cargo:shop::a`"),
            ("crago:shop::a", "did you mean `cargo`?"),
            ("jest:a:b", "there is: cargo, pytest, go, vitest, command; any other is started by `command:`"),
            ("cargo:shop", "such as `cargo:shop::checkout::a_cart_is_paid`"),
            ("go:pkg:", "such as `go:example.com/shop/cart:TestTotal`"),
            ("command:", "such as `command:./check-links docs`"),
            ("command: x", "such as `command:./check-links docs`"),
        ] {
            assert_eq!(Reference::parse(text).unwrap_err().hint.as_deref(), Some(hint), "{text}");
        }
    }
}
