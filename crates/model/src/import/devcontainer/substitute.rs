//! Variables in all texts of a devcontainer.json at once.

use std::collections::{BTreeMap, BTreeSet};

use super::features::OptionValue;
use super::file::{DevContainer, Source, WorkspaceMount};
use super::hooks::Phase;
use super::merge::Merged;
use super::settings::{Settings, Spot, each_text_of_mount, each_text_of_run};
use super::variables::{self, Context, NAMES};
use crate::manifest::{Location, Note, nearest};

impl DevContainer {
    /// The same with what is known put into its texts. Variables that there are none of stay, and are noted with
    /// the first of the passes, the one that knows the host.
    #[must_use]
    pub fn substitute(mut self, context: &Context<'_>) -> Self {
        let mut notes = std::mem::take(&mut self.notes);
        self.each_text(&mut |spot, text, at| put_in(spot, text, at, context, &mut notes));
        if let Some(customizations) = &mut self.settings.customizations {
            in_json(customizations, context);
        }
        Self { notes, ..self }
    }

    /// The variables of the caller's environment that its texts ask for.
    #[must_use]
    pub fn local_env_names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        self.clone().each_text(&mut |_, text, _| names.append(&mut variables::local_env_names(text)));
        names
    }

    /// Every text that may hold variables.
    fn each_text(&mut self, visit: &mut impl FnMut(Spot, &mut String, &Location)) {
        let mut texts = Vec::new();
        match &mut self.source {
            Source::Image(image) => texts.push(image),
            Source::Build(build) => {
                texts.push(&mut build.dockerfile);
                texts
                    .extend(build.context.iter_mut().chain(build.args.values_mut()).chain(&mut build.target));
                texts.extend(build.cache_from.iter_mut().chain(&mut build.options));
            }
            Source::Compose(compose) => {
                texts.extend(compose.files.iter_mut());
                texts.push(&mut compose.service);
                texts.extend(compose.run_services.iter_mut().flatten());
            }
        }
        texts.extend(self.name.iter_mut().chain(&mut self.workspace_folder));
        texts.extend(self.run_args.iter_mut().chain(&mut self.app_port));
        for text in texts {
            visit(Spot::Container, &mut text.value, &text.at);
        }
        for feature in &mut self.features {
            for option in feature.options.values_mut() {
                if let OptionValue::Text(text) = option {
                    visit(Spot::Container, text, &feature.at);
                }
            }
        }
        if let WorkspaceMount::Mount(mount) = &mut self.workspace_mount {
            each_text_of_mount(&mut mount.value, &mount.at, visit);
        }
        self.settings.each_text(visit);
    }
}

impl Settings {
    /// The same with what is known put into its texts, and notes on variables that there are none of.
    #[must_use]
    pub fn substitute(mut self, context: &Context<'_>) -> (Self, Vec<Note>) {
        let mut notes = Vec::new();
        self.each_text(&mut |spot, text, at| put_in(spot, text, at, context, &mut notes));
        if let Some(customizations) = &mut self.customizations {
            in_json(customizations, context);
        }
        (self, notes)
    }
}

impl Merged {
    /// The same with the environment of the running container put into what needs it: the environment of commands
    /// and tools, and the commands inside.
    #[must_use]
    pub fn inside(mut self, env: &BTreeMap<String, String>) -> Self {
        let context = Context { container_env: Some(env), ..Context::default() };
        let put_in = |text: &mut String| *text = variables::substitute(text, &context).text;
        self.remote_env.values_mut().flatten().for_each(put_in);
        for (phase, runs) in &mut self.hooks {
            if *phase != Phase::Initialize {
                runs.iter_mut().for_each(|run| each_text_of_run(&mut run.value, &mut { put_in }));
            }
        }
        self
    }
}

fn put_in(spot: Spot, text: &mut String, at: &Location, context: &Context<'_>, notes: &mut Vec<Note>) {
    if context.local.is_some() && spot != Spot::Inside && variables::asks_for_container_env(text) {
        let said = "`containerEnv` is not known here: only `remoteEnv` and commands inside may ask for it";
        notes.push(Note { at: at.clone(), text: said.to_owned() });
    }
    let container_env = context.container_env.filter(|_| spot == Spot::Inside);
    let done = variables::substitute(text, &Context { container_env, ..*context });
    *text = done.text;
    for variable in done.unknown.iter().filter(|_| context.local.is_some()) {
        let name = variable.split(':').next().unwrap_or(variable);
        let meant = nearest(name, NAMES).map(|meant| match meant {
            "localEnv" | "containerEnv" | "env" => format!("; did you mean `${{{meant}:NAME}}`?"),
            _ => format!("; did you mean `${{{meant}}}`?"),
        });
        // In commands, `${NAME}` is as a rule a variable of the shell.
        if spot == Spot::Container || meant.is_some() {
            let text = format!(
                "there is no variable `${{{variable}}}`, and it stays as it is{}",
                meant.unwrap_or_default()
            );
            notes.push(Note { at: at.clone(), text });
        }
    }
}

/// Puts what is known into what is meant for editors, which have variables of their own.
fn in_json(value: &mut serde_json::Value, context: &Context<'_>) {
    match value {
        serde_json::Value::String(text) => *text = variables::substitute(text, context).text,
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| in_json(item, context)),
        serde_json::Value::Object(members) => {
            members.values_mut().for_each(|member| in_json(member, context))
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::import::Text;
    use crate::import::devcontainer::variables::{Context, Local};
    use crate::import::devcontainer::{DevContainer, parse};

    const FILE: &str = r#"{
        "image": "mine:${localEnv:TAG:latest}",
        "workspaceFolder": "/work/${localWorkspaceFolderBasename}",
        "mounts": ["type=volume,source=cache-${devcontainerId},target=${containerWorkspaceFolder}/target"],
        "runArgs": ["--env-file", "${localWorkspaceFolder}/.env"],
        "containerEnv": { "A": "${containerEnv:PATH}", "B": "${localworkspaceFolder}" },
        "remoteEnv": { "PATH": "${containerEnv:PATH}:/x" },
        "postCreateCommand": "echo ${HOME} ${containerWorkspaceFolder}",
        "customizations": { "x": ["${localEnv:TAG:latest}", "${workspaceFolder}"] }
    }"#;

    fn file() -> DevContainer {
        parse(&Text::new("devcontainer.json", FILE)).unwrap()
    }

    #[test]
    fn all_texts_are_done_in_two_passes() {
        let env = BTreeMap::new();
        let local = Local { env: &env, workspace_folder: "/home/mo/shop", id: "id" };
        let first = file().substitute(&Context { local: Some(local), ..Context::default() });
        let folder = first.workspace_folder.clone().unwrap().value;
        assert_eq!(folder, "/work/shop");
        let second =
            first.substitute(&Context { container_workspace_folder: Some(&folder), ..Context::default() });
        let mount = &second.settings.mounts[0].value;
        assert_eq!(mount.target, "/work/shop/target");
        assert_eq!(second.run_args[1].value, "/home/mo/shop/.env");
        assert_eq!(second.settings.container_env["A"].value, "${containerEnv:PATH}");
        assert_eq!(
            second.settings.customizations,
            Some(serde_json::json!({ "x": ["latest", "${workspaceFolder}"] }))
        );
        let hook = second.settings.hooks.values().next().unwrap().value.to_string();
        assert_eq!(hook, "echo ${HOME} /work/shop");
        let notes: Vec<&str> = second.notes.iter().map(|note| note.text.as_str()).collect();
        assert_eq!(
            notes,
            [
                "`containerEnv` is not known here: only `remoteEnv` and commands inside may ask for it",
                "there is no variable `${localworkspaceFolder}`, and it stays as it is; \
                 did you mean `${localWorkspaceFolder}`?",
            ]
        );
    }

    #[test]
    fn the_environment_inside_is_put_in_only_where_it_is_known() {
        let env = BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())]);
        let file = file().substitute(&Context { container_env: Some(&env), ..Context::default() });
        assert_eq!(file.settings.remote_env["PATH"].value.as_deref(), Some("/bin:/x"));
        assert_eq!(file.settings.container_env["A"].value, "${containerEnv:PATH}");
        assert_eq!(file.notes, []);
    }

    #[test]
    fn what_is_asked_of_the_caller_is_known_by_name() {
        assert_eq!(file().local_env_names().into_iter().collect::<Vec<_>>(), ["TAG"]);
    }
}
