//! How an image is built.

use std::collections::BTreeMap;

use super::load::Environment;
use super::node::{Data, Node};
use super::report::Report;
use super::types::Stored;
use super::{files, hosts, paths};
use crate::container::{Build, BuildSecret};

/// Reads `build`: a context, or a map.
pub(super) fn read(
    report: &mut Report,
    node: &Node,
    secrets: &BTreeMap<String, Stored>,
    env: &Environment,
) -> Option<Build> {
    if let Data::Text(context) = &node.data {
        return Some(Build { context: cleaned(context), ..Build::default() });
    }
    if matches!(node.data, Data::List(_)) {
        report.wrong(node, "build", "a folder, or a map");
        return None;
    }
    let fields = report.fields(node, "services.*.build", "build")?;
    let mut text = |key| fields.get(key).and_then(|node| report.text(node, key));
    let context = text("context").unwrap_or_else(|| ".".to_owned());
    let (dockerfile, inline) = (text("dockerfile"), text("dockerfile_inline"));
    let (target, network) = (text("target"), text("network"));
    if let (Some(_), Some(inline)) = (&dockerfile, fields.get("dockerfile_inline")) {
        let problem = inline.at.problem("bad-build", "`dockerfile` and `dockerfile_inline` are both given");
        report.problem(problem.hint("remove one of them"));
    }
    let mut truth = |key| fields.get(key).and_then(|node| report.truth(node, key)) == Some(true);
    let (no_cache, pull) = (truth("no_cache"), truth("pull"));
    let pairs =
        |report: &mut Report, key| fields.get(key).map(|node| report.pairs(node, key)).unwrap_or_default();
    let args = pairs(report, "args").into_iter().map(|pair| {
        let value = pair.value.or_else(|| env.get(&pair.key).cloned());
        (pair.key, value)
    });
    let args = args.collect();
    let platform = fields.get("platforms").map(|node| (node, report.texts(node, "platforms")));
    let platform = platform.and_then(|(node, platforms)| {
        if platforms.len() > 1 {
            report.note(
                &node.at,
                "the first of these platforms is built for, unless the service has a `platform`",
            );
        }
        platforms.into_iter().next().map(|(platform, _)| platform)
    });
    let additional_contexts = pairs(report, "additional_contexts").into_iter();
    let additional_contexts =
        additional_contexts.map(|pair| (pair.key, cleaned(&pair.value.unwrap_or_default()))).collect();
    Some(Build {
        context: cleaned(&context),
        dockerfile,
        inline,
        args,
        target,
        cache_from: fields
            .get("cache_from")
            .map(|node| report.one_or_more(node, "cache_from"))
            .unwrap_or_default(),
        platform,
        network,
        labels: fields.get("labels").map(|node| report.named(node, "labels")).unwrap_or_default(),
        extra_hosts: fields.get("extra_hosts").map(|node| hosts::read(report, node)).unwrap_or_default(),
        shm_size: fields.get("shm_size").and_then(|node| report.size(node, "shm_size")),
        secrets: fields.get("secrets").map(|node| build_secrets(report, node, secrets)).unwrap_or_default(),
        additional_contexts,
        no_cache,
        pull,
    })
}

/// A folder without needless parts; what is no folder stays as it is.
fn cleaned(context: &str) -> String {
    if paths::is_remote(context) || context.is_empty() { context.to_owned() } else { paths::clean(context) }
}

fn build_secrets(
    report: &mut Report,
    node: &Node,
    known: &BTreeMap<String, Stored>,
) -> BTreeMap<String, BuildSecret> {
    let mut secrets = BTreeMap::new();
    for used in files::used(report, node, known, files::Kind::Secret) {
        let id = used.target.strip_prefix("/run/secrets/").unwrap_or(&used.target).to_owned();
        let secret = match &known[&used.source] {
            Stored::File(path) => BuildSecret::File(path.clone()),
            Stored::Environment(name) => BuildSecret::Env(name.clone()),
            Stored::Content(_) | Stored::External(_) => {
                let text = format!(
                    "the secret `{}` is left out of the build: it is no file and no variable",
                    used.source
                );
                report.note(&node.at, text);
                continue;
            }
        };
        secrets.insert(id, secret);
    }
    secrets
}
