//! Installing features over an image: one build, whose Dockerfile is made here.

use std::io::Write;
use std::path::Path;

use bollard::query_parameters::{BuildImageOptions, BuilderVersion};
use setpoint_model::container::Feature;
use setpoint_model::desired::feature_inputs;

use super::build::{Failed, run};
use super::client::Connected;
use super::images;
use super::session::Given;
use crate::cancel::Cancel;
use crate::engine::{BuildFailed, EngineError};
use crate::events::Watcher;

/// The repository of images with features.
const BUILT: &str = "setpoint-features";
/// Where the features lie while they are installed.
const PLACE: &str = "/tmp/setpoint-features";

/// Gives a user other ids, and what he owns at home with them. Whoever has the ids gets free ones.
const CHANGE_IDS: &str = r#"
user=$1 uid=$2 gid=$3
line=$(grep "^$user:" /etc/passwd) || { echo "there is no user $user in this image"; exit 1; }
old_uid=$(echo "$line" | cut -d: -f3) old_gid=$(echo "$line" | cut -d: -f4) home=$(echo "$line" | cut -d: -f6)
[ "$old_uid" = 0 ] && exit 0
free() { free=60000; while cut -d: -f3 "$1" | grep -qx "$free"; do free=$((free + 1)); done; echo "$free"; }
set_field() { sed "s/^\($2:[^:]*:\)$3\b/\1$4/" "$1" >"$1.new" && cat "$1.new" >"$1" && rm "$1.new"; }
if [ "$old_gid" != "$gid" ]; then
  other=$(awk -F: -v gid="$gid" '$3 == gid { print $1 }' /etc/group | head -n 1)
  if [ -z "$other" ]; then
    group=$(awk -F: -v gid="$old_gid" '$3 == gid { print $1 }' /etc/group | head -n 1)
    [ -z "$group" ] || set_field /etc/group "$group" "$old_gid" "$gid"
  else
    echo "group $gid is $other in this image; $user is in it now"
  fi
  sed "s/^\($user:[^:]*:[^:]*:\)$old_gid:/\1$gid:/" /etc/passwd >/etc/passwd.new
  cat /etc/passwd.new >/etc/passwd; rm /etc/passwd.new
fi
if [ "$old_uid" != "$uid" ]; then
  other=$(awk -F: -v uid="$uid" '$3 == uid { print $1 }' /etc/passwd | head -n 1)
  if [ -n "$other" ]; then
    new=$(free /etc/passwd)
    echo "user id $uid belongs to $other in this image; $other has $new now, so that $user can have it"
    set_field /etc/passwd "$other" "$uid" "$new"
  fi
  set_field /etc/passwd "$user" "$old_uid" "$uid"
fi
[ -d "$home" ] && chown -R "$uid:$gid" "$home" || true
"#;

/// The name of an image with these features, over the image of this id.
pub(super) fn name(below: &str, features: &[Feature], user: Option<&(String, u32, u32)>) -> String {
    let user = user.map(|(name, uid, gid)| (name.as_str(), *uid, *gid));
    format!("{BUILT}:{}", &feature_inputs(below, features, user).to_hex()[..24])
}

/// Builds the image.
pub(super) fn build(
    connected: &Connected,
    below: &str,
    name: &str,
    features: &[Feature],
    user: Option<&(String, u32, u32)>,
    watcher: &dyn Watcher,
    cancel: &Cancel,
) -> Result<(), EngineError> {
    let facts = connected.quick("look at an image", connected.api.inspect_image(below))?;
    let last = facts.config.and_then(|config| config.user).unwrap_or_default();
    let (text, lines) = dockerfile(below, &last, features, user);
    let options = BuildImageOptions {
        dockerfile: "Dockerfile".to_owned(),
        rm: true,
        forcerm: true,
        version: if connected.has_buildkit() {
            BuilderVersion::BuilderBuildKit
        } else {
            BuilderVersion::BuilderV1
        },
        session: connected.has_buildkit().then(crate::random::hex),
        ..BuildImageOptions::default()
    };
    let sent = (text.clone(), features.to_vec());
    let send = move |to: &mut dyn Write| archive(&sent.0, &sent.1, to);
    let image = run(connected, options, Given::default(), send, &text, watcher, cancel)
        .map_err(|failed| explained(failed, &lines, features))?;
    images::call(connected, &image, name)
}

/// A failure of a feature, at the place where that is asked for.
fn explained(failed: Failed, lines: &[(u32, usize)], features: &[Feature]) -> EngineError {
    let at = failed.line.as_ref().map(|(line, _)| *line);
    let feature =
        lines.iter().find(|(line, _)| Some(*line) == at).and_then(|(_, index)| features.get(*index));
    Box::new(BuildFailed {
        what: feature.map_or_else(|| "features".to_owned(), |feature| format!("feature {}", feature.name)),
        line: feature.map(|feature| feature.at.clone()),
        why: failed.why,
        tail: failed.tail,
    })
    .into()
}

/// The Dockerfile, and on which of its lines which feature is installed.
fn dockerfile(
    below: &str,
    last_user: &str,
    features: &[Feature],
    user: Option<&(String, u32, u32)>,
) -> (String, Vec<(u32, usize)>) {
    let mut lines = vec![format!("FROM {below}"), "USER root".to_owned()];
    let mut installs = Vec::new();
    for (index, feature) in features.iter().enumerate() {
        lines.push(format!("COPY {index} {PLACE}/{index}"));
        lines.extend(feature.image_env.iter().map(|(name, value)| format!("ENV {name}={}", quoted(value))));
        let script = format!(
            "cd {PLACE}/{index} && chmod -R a+rX . && chmod +x install.sh && set -a && . ./setpoint.env && set +a && ./install.sh"
        );
        installs.push((u32::try_from(lines.len() + 1).unwrap_or(u32::MAX), index));
        lines.push(format!("RUN {script}"));
    }
    if !features.is_empty() {
        lines.push(format!("RUN rm -rf {PLACE}"));
    }
    if let Some((name, uid, gid)) = user {
        lines.push(format!("COPY setpoint-ids {PLACE}-ids"));
        lines.push(format!("RUN /bin/sh {PLACE}-ids {name} {uid} {gid} && rm {PLACE}-ids"));
    }
    if !last_user.is_empty() {
        lines.push(format!("USER {last_user}"));
    }
    (lines.join("\n") + "\n", installs)
}

/// A value of ENV: what stands in it is expanded there, and quotes are kept.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Writes what the builder is sent.
fn archive(dockerfile: &str, features: &[Feature], to: &mut dyn Write) -> std::io::Result<()> {
    let mut archive = tar::Builder::new(to);
    archive.follow_symlinks(false);
    let file = |path: &str, text: &str, archive: &mut tar::Builder<_>| {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, text.as_bytes())
    };
    file("Dockerfile", dockerfile, &mut archive)?;
    file("setpoint-ids", CHANGE_IDS, &mut archive)?;
    for (index, feature) in features.iter().enumerate() {
        archive.append_dir_all(index.to_string(), Path::new(&feature.folder))?;
        file(&format!("{index}/setpoint.env"), &environment(feature), &mut archive)?;
    }
    archive.finish()
}

/// The environment of an `install.sh`, for the shell. The homes of the users are known only inside.
fn environment(feature: &Feature) -> String {
    let quote = |value: &str| format!("'{}'", value.replace('\'', "'\\''"));
    let mut text = String::new();
    for (name, value) in &feature.install_env {
        match name.strip_suffix("_HOME").filter(|_| name.starts_with('_')) {
            Some(user) => text.push_str(&format!("{name}=$(grep \"^${user}:\" /etc/passwd | cut -d: -f6)\n")),
            None => text.push_str(&format!("{name}={}\n", quote(value))),
        }
    }
    text
}
