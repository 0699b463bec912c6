//! How the tests that specs name are run.

use crate::spec::Runner;

/// How the tests that specs name are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runners {
    /// Cargo.
    pub cargo: RunnerSettings,
    /// Test binaries of Rust whose tests run in one process.
    pub together: Vec<String>,
    /// pytest.
    pub pytest: RunnerSettings,
    /// Go.
    pub go: RunnerSettings,
    /// Vitest.
    pub vitest: RunnerSettings,
    /// What runs commands.
    pub command: RunnerSettings,
}

/// How a runner is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerSettings {
    /// The program, and what always stands behind it.
    pub command: Vec<String>,
    /// What it is told besides.
    pub arguments: Vec<String>,
    /// Where it is run, from the project's folder; empty is there.
    pub folder: String,
}

impl RunnerSettings {
    fn of(command: &[&str]) -> Self {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        Self { command, arguments: Vec::new(), folder: String::new() }
    }
}

impl Default for Runners {
    fn default() -> Self {
        Self {
            cargo: RunnerSettings::of(&["cargo"]),
            together: Vec::new(),
            pytest: RunnerSettings::of(&["python3", "-m", "pytest"]),
            go: RunnerSettings::of(&["go"]),
            vitest: RunnerSettings::of(&["npx", "--no-install", "vitest"]),
            command: RunnerSettings::of(&["/bin/sh", "-c"]),
        }
    }
}

impl Runners {
    /// How a runner is run.
    #[must_use]
    pub fn of(&self, runner: Runner) -> &RunnerSettings {
        match runner {
            Runner::Cargo => &self.cargo,
            Runner::Pytest => &self.pytest,
            Runner::Go => &self.go,
            Runner::Vitest => &self.vitest,
            Runner::Command => &self.command,
        }
    }
}
