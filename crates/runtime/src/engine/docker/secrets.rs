//! Variables that hold secrets. Whoever can look at a container can read what it was made with, so these come by a file,
//! which a shell reads before it becomes what is to run.

use std::path::PathBuf;

use bollard::models::{ContainerCreateBody, Mount, MountType};
use bollard::query_parameters::RemoveContainerOptionsBuilder;

use super::{Docker, files};
use crate::engine::{EngineError, UnitId, UnitSpec};
use crate::paths::make_private_folder;
use crate::secrets::{Secrets, give, write_private};

/// Where the file appears.
const PLACE: &str = "/run/setpoint";
const VARIABLES: &str = "variables";
const SHELL: &str = "/bin/sh";
/// Reads the file, and becomes what follows.
const READS: &str = ". /run/setpoint/variables && exec \"$@\"";
/// Its access rights where it cannot be given to its reader.
const TO_ALL: u32 = 0o444;

impl Docker {
    /// Lets what a container runs, and its health check, begin with a shell that reads the variables.
    pub(super) fn give_by_file(
        &self,
        unit: &UnitId,
        spec: &UnitSpec,
        body: &mut ContainerCreateBody,
    ) -> Result<(), EngineError> {
        if let Some(name) = spec.secret_env.keys().find(|name| !is_word(name)) {
            let what = format!("giving a secret as the variable `{name}`");
            return Err(self.unsupported(what, "give it another name, or the secret as a file by `secrets`"));
        }
        let connected = self.connected()?;
        let image = body.image.clone().unwrap_or_default();
        let found = connected.find("look at an image", connected.api.inspect_image(&image))?;
        let config = found.and_then(|image| image.config).unwrap_or_default();
        // Whoever says the entrypoint does not want the image's command.
        let own = body.entrypoint.is_none().then_some(config.cmd).flatten();
        let runs = body.entrypoint.take().or(config.entrypoint).unwrap_or_default();
        let runs: Vec<String> = runs.into_iter().chain(body.cmd.take().or(own).unwrap_or_default()).collect();
        if runs.is_empty() {
            let what = "running a unit of which neither the image nor the manifest says what runs in it";
            return Err(self.unsupported(what, "set its `command`"));
        }
        body.entrypoint = Some(reading(&[]));
        body.cmd = Some(runs);
        let declared = body.healthcheck.get_or_insert_default();
        let checks = declared.test.take().filter(|test| !test.is_empty());
        declared.test = checks.or(config.healthcheck.and_then(|health| health.test)).map(checked);
        if *declared == Default::default() {
            body.healthcheck = None;
        }
        let folder = self.variables_folder(unit, spec);
        make_private_folder(&folder).map_err(EngineError::io("make", &folder))?;
        let mount = Mount {
            typ: Some(MountType::BIND),
            source: Some(folder.to_string_lossy().into_owned()),
            target: Some(PLACE.to_owned()),
            read_only: Some(true),
            ..Mount::default()
        };
        body.host_config.get_or_insert_default().mounts.get_or_insert_default().push(mount);
        Ok(())
    }

    /// Takes a container away again that has no shell.
    pub(super) fn needs_shell(&self, container: &str) -> Result<(), EngineError> {
        let connected = self.connected()?;
        if !files::text(connected, container, SHELL)?.is_empty() {
            return Ok(());
        }
        let options = RemoveContainerOptionsBuilder::default().v(true).build();
        connected.find("remove a container", connected.api.remove_container(container, Some(options)))?;
        let what = format!("giving secrets as variables to an image without {SHELL}");
        Err(self.unsupported(what, "give them as files, by `secrets = [...]` or a template of `files`"))
    }

    /// Writes the variables that a container is about to read.
    pub(super) fn write_variables(&self, unit: &UnitId, spec: &UnitSpec) -> Result<(), EngineError> {
        if spec.secret_env.is_empty() {
            return Ok(());
        }
        let secrets = Secrets::new(&self.roots, &spec.labels.project_root);
        let lines = secrets.variables(&spec.secret_env)?.into_iter();
        let text: String = lines.map(|(name, value)| format!("export {name}={}\n", quoted(&value))).collect();
        let path = self.variables_folder(unit, spec).join(VARIABLES);
        write_private(&path, text.as_bytes(), false).map_err(EngineError::io("write", &path))?;
        let reader = self.resolve(unit, "")?.0;
        give(&path, reader.uid, reader.gid, TO_ALL).map_err(EngineError::io("give", &path))
    }

    fn variables_folder(&self, unit: &UnitId, spec: &UnitSpec) -> PathBuf {
        Secrets::new(&self.roots, &spec.labels.project_root).unit_folder(unit).join("env")
    }
}

/// A shell that reads the variables and becomes this, or what follows.
fn reading(argv: &[String]) -> Vec<String> {
    let shell = [SHELL, "-c", READS, "setpoint"].map(str::to_owned);
    [shell.to_vec(), argv.to_vec()].concat()
}

/// A health check that reads the variables.
fn checked(test: Vec<String>) -> Vec<String> {
    let runs = match test.split_first() {
        Some((kind, argv)) if kind == "CMD" => argv.to_vec(),
        Some((kind, text)) if kind == "CMD-SHELL" => {
            [vec![SHELL.to_owned(), "-c".to_owned()], text.to_vec()].concat()
        }
        _ => return test,
    };
    [vec!["CMD".to_owned()], reading(&runs)].concat()
}

/// Whether a shell takes it for the name of a variable.
fn is_word(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A text as a shell reads it back.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_written() {
        for text in ["", "plain", "a 'b' \"c\" $d `e` \\", "two\nlines\n", "''"] {
            let script = format!("printf %s {}", quoted(text));
            let output = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }

    #[test]
    fn a_check_runs_as_before_once_the_variables_are_read() {
        let words = |text: &[&str]| text.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let reads = [SHELL, "-c", READS, "setpoint"];
        assert_eq!(checked(words(&["CMD", "a", "b"])), words(&[&["CMD"], &reads[..], &["a", "b"]].concat()));
        let shell = [&["CMD"], &reads[..], &["/bin/sh", "-c", "a | b"]].concat();
        assert_eq!(checked(words(&["CMD-SHELL", "a | b"])), words(&shell));
        assert_eq!(checked(words(&["NONE"])), ["NONE"]);
    }
}
