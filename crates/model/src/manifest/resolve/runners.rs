//! How the tests that specs name are run.

use super::super::document::{Document, steps};
use super::super::problem::Problem;
use super::super::runners::{RunnerSettings, Runners};
use super::super::shape::{RunnerSection, SpecSection};
use super::check_argv;

/// What a section says, over what holds where it says nothing.
pub(super) fn runners(section: SpecSection, document: &mut Document<'_>) -> Runners {
    let default = Runners::default();
    let SpecSection { cargo, pytest, go, vitest } = section;
    let together = cargo.together.into_iter().map(|binary| binary.0).collect();
    let cargo = RunnerSection { command: cargo.command, arguments: cargo.arguments, folder: cargo.folder };
    let mut settings = |name: &str, section: RunnerSection, default: RunnerSettings| {
        if let Some(argv) = &section.command {
            check_argv(argv, &steps!["spec", name, "command"], document);
        }
        let folder = section.folder.map(|folder| folder.0).unwrap_or_default();
        if folder.starts_with(['/', '~']) {
            let problem =
                Problem::new("bad-path", format!("`{folder}` is not told from the project's folder"));
            document.at_value(&steps!["spec", name, "folder"], problem.hint("such as `web`"));
        }
        RunnerSettings {
            command: section.command.unwrap_or(default.command),
            arguments: section.arguments,
            folder,
        }
    };
    Runners {
        cargo: settings("cargo", cargo, default.cargo),
        pytest: settings("pytest", pytest, default.pytest),
        go: settings("go", go, default.go),
        vitest: settings("vitest", vitest, default.vitest),
        command: default.command,
        together,
    }
}
