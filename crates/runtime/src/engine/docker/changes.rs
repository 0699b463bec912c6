//! What was changed in a container's own layer.

use super::client::Connected;
use super::error::DockerError;

/// The files that the engine itself puts into a container.
const OF_ENGINE: [&str; 5] =
    ["/.dockerenv", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv"];

/// The paths that were changed, without folders on the way to a change and places where something is mounted.
pub(super) fn own(connected: &Connected, container: &str) -> Result<Vec<String>, DockerError> {
    let what = "look at changes";
    let found = connected.container(what, container)?;
    let Some(found) = found else { return Ok(Vec::new()) };
    let changes = connected.find(what, connected.api.container_changes(container))?;
    let mounts = found.mounts.into_iter().flatten().filter_map(|mount| mount.destination);
    let mounted: Vec<String> = mounts.chain(OF_ENGINE.map(str::to_owned)).collect();
    let mut paths: Vec<String> = changes.flatten().into_iter().flatten().map(|change| change.path).collect();
    paths.sort();
    Ok(without(&paths, &mounted))
}

/// These paths, which are sorted, without those that lead to the next or to one of these places.
fn without(paths: &[String], places: &[String]) -> Vec<String> {
    let leads_to = |folder: &str, path: &str| {
        path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let own = paths.iter().enumerate().filter(|(index, path)| {
        let next = paths.get(index + 1);
        !next.is_some_and(|next| leads_to(path, next)) && !places.iter().any(|place| leads_to(path, place))
    });
    own.map(|(_, path)| path.clone()).collect()
}
