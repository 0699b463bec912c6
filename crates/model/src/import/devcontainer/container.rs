//! The settings of the container that a devcontainer.json and all that is merged with it ask for.

use super::file::{DevContainer, Source, WorkspaceMount};
use super::merge::Merged;
use crate::container::{Container, ContainerMount, MountSource, PublishedPort};

/// The settings of a container that is made of an image. What `runArgs` say stands over what is merged, as on Docker's
/// command line; `workspace` is how the project appears inside.
#[must_use]
pub fn container(
    merged: &Merged,
    run_args: Container,
    app_ports: Vec<PublishedPort>,
    workspace: Option<ContainerMount>,
) -> Container {
    let mut container = run_args;
    container.init = if merged.init { Some(true) } else { container.init };
    container.privileged |= merged.privileged;
    container.cap_add.extend(merged.cap_add.iter().cloned());
    container.security_opt.extend(merged.security_opt.iter().cloned());
    container.user = container.user.or_else(|| merged.container_user.clone());
    for (name, value) in &merged.container_env {
        container.env.entry(name.clone()).or_insert_with(|| value.clone());
    }
    container.ports.splice(..0, app_ports);
    let own = std::mem::take(&mut container.mounts);
    for mount in workspace.into_iter().chain(merged.mounts.iter().cloned()).chain(own) {
        container.mounts.retain(|other| other.target != mount.target);
        container.mounts.push(mount);
    }
    container
}

impl DevContainer {
    /// Where commands and tools start inside, for the folder of the project on the host: what is said, else where the
    /// project appears. The variables of the host must be substituted.
    #[must_use]
    pub fn folder_inside(&self, project: &str) -> String {
        let mounted = match &self.workspace_mount {
            WorkspaceMount::Mount(mount) => Some(&mount.value.target),
            WorkspaceMount::Default | WorkspaceMount::Nothing(_) => None,
        };
        let said = self.workspace_folder.as_ref().map(|folder| &folder.value);
        match said.or(mounted.filter(|target| !target.contains("${"))) {
            Some(folder) => folder.clone(),
            None if matches!(self.source, Source::Compose(_)) => "/".to_owned(),
            None => default_folder(project),
        }
    }

    /// How the project appears inside, for its folder on the host; nothing where it does not, and in a service of a
    /// compose file, which says so itself.
    #[must_use]
    pub fn workspace(&self, project: &str) -> Option<ContainerMount> {
        match &self.workspace_mount {
            _ if matches!(self.source, Source::Compose(_)) => None,
            WorkspaceMount::Nothing(_) => None,
            WorkspaceMount::Mount(mount) => Some(mount.value.clone()),
            WorkspaceMount::Default => Some(ContainerMount {
                target: default_folder(project),
                read_only: false,
                source: MountSource::Bind { source: project.to_owned(), create: false, propagation: None },
            }),
        }
    }
}

/// Where a project appears if nothing is said.
fn default_folder(project: &str) -> String {
    let name = project.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    format!("/workspaces/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::Text;
    use crate::import::devcontainer::{Entry, Origin, merge, parse, published_ports, run_args};

    fn file(text: &str) -> DevContainer {
        parse(&Text::new("devcontainer.json", text)).unwrap()
    }

    fn made(text: &str) -> Container {
        let file = file(text);
        let run = run_args(&file.run_args).unwrap();
        let ports = published_ports(&file.app_port).unwrap();
        let workspace = file.workspace("/home/dev/shop");
        let merged = merge(vec![Entry { origin: Origin::File, settings: file.settings }]);
        container(&merged, run.container, ports, workspace)
    }

    #[test]
    fn arguments_of_docker_stand_over_what_is_merged() {
        let made = made(
            r#"{ "image": "x", "containerUser": "one", "containerEnv": { "A": "1", "B": "1" }, "init": true,
                "capAdd": ["SYS_PTRACE"], "mounts": ["type=volume,source=a,target=/a"], "appPort": [80],
                "runArgs": ["-u", "two", "-e", "B=2", "-v", "b:/a", "--cap-add=NET_ADMIN", "-p", "90:90", "--init=false"] }"#,
        );
        assert_eq!(made.user.as_deref(), Some("two"));
        assert_eq!((made.env["A"].as_str(), made.env["B"].as_str()), ("1", "2"));
        assert_eq!(made.init, Some(true));
        assert_eq!(made.cap_add.len(), 2);
        assert_eq!(made.ports.iter().map(|port| port.container).collect::<Vec<_>>(), [80, 90]);
        let mounts: Vec<&str> = made.mounts.iter().map(|mount| mount.target.as_str()).collect();
        assert_eq!(mounts, ["/workspaces/shop", "/a"]);
        assert!(
            matches!(&made.mounts[1].source, MountSource::Volume { name: Some(name), .. } if name == "b")
        );
    }

    #[test]
    fn the_project_appears_where_it_is_said() {
        for (text, folder, mounted) in [
            (r#"{ "image": "x" }"#, "/workspaces/shop", Some("/workspaces/shop")),
            (r#"{ "image": "x", "workspaceFolder": "/w" }"#, "/w", Some("/workspaces/shop")),
            (r#"{ "image": "x", "workspaceMount": "" }"#, "/workspaces/shop", None),
            (r#"{ "image": "x", "workspaceMount": "src=v,dst=/v" }"#, "/v", Some("/v")),
            (r#"{ "dockerComposeFile": "c", "service": "s" }"#, "/", None),
            (r#"{ "dockerComposeFile": "c", "service": "s", "workspaceFolder": "/w" }"#, "/w", None),
        ] {
            let file = file(text);
            assert_eq!(file.folder_inside("/home/dev/shop/"), folder, "{text}");
            let target = file.workspace("/home/dev/shop").map(|mount| mount.target);
            assert_eq!(target.as_deref(), mounted, "{text}");
        }
    }
}
