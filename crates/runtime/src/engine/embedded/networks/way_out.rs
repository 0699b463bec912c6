//! How units reach what is outside of the host: their addresses are replaced by the host's own, by its filter of
//! packets. The programs for it are the system's; without them, networks work and nothing leads out of them.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use setpoint_sandbox as sandbox;
use setpoint_sandbox::Subnet;

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Which program sets the rules.
enum Program {
    Iptables(PathBuf),
    Nft(PathBuf),
}

fn program() -> Option<Program> {
    let path = sandbox::probe::packet_filter()?;
    Some(if path.ends_with("nft") { Program::Nft(path) } else { Program::Iptables(path) })
}

/// Whether something can lead out of networks on this machine.
pub(in crate::engine::embedded) fn is_there() -> bool {
    program().is_some()
}

/// Opens the way out of a bridge that has none, unless it is internal, and closes all others. Nothing without a program
/// for it.
pub(super) fn open(bridge: &str, subnet: Subnet, internal: bool) -> Result<(), String> {
    let Some(program) = program() else { return Ok(()) };
    if !internal && fs::read_to_string(FORWARD).is_ok_and(|now| now.trim() == "0") {
        fs::write(FORWARD, "1").map_err(|error| format!("cannot write {FORWARD}: {error}"))?;
    }
    match program {
        Program::Nft(nft) => run(&nft, &["-f", "-"], &table(bridge, subnet, internal)),
        Program::Iptables(iptables) => {
            restore(&iptables, &batch(&rules(bridge, subnet, internal), |rule| rule.added))
        }
    }
}

/// Removes what [`open`] made. What is not there any more is no error.
pub(super) fn close(bridge: &str, subnet: Subnet, internal: bool) {
    match program() {
        None => {}
        Some(Program::Nft(nft)) => drop(run(&nft, &["delete", "table", "ip", bridge], "")),
        Some(Program::Iptables(iptables)) => {
            let rules = rules(bridge, subnet, internal);
            if restore(&iptables, &batch(&rules, |_| "-D")).is_err() {
                // One that is not there keeps the others of a batch from going.
                rules.iter().for_each(|rule| drop(run(&iptables, &rule.words("-D"), "")));
            }
        }
    }
}

/// A table of its own, which is made anew if it is there.
fn table(bridge: &str, subnet: Subnet, internal: bool) -> String {
    let (leaves, comes) = (
        format!("iifname \"{bridge}\" oifname != \"{bridge}\""),
        format!("oifname \"{bridge}\" iifname != \"{bridge}\""),
    );
    let (out, walls) = match internal {
        true => (String::new(), format!("{leaves} drop; {comes} drop;")),
        false => (
            format!(
                "chain out {{ type nat hook postrouting priority 100; \
                 ip saddr {subnet} oifname != \"{bridge}\" masquerade; }}\n"
            ),
            format!(
                "{leaves} oifname \"sp-*\" drop; {comes} ct state established,related accept; {comes} drop;"
            ),
        ),
    };
    format!(
        "table ip {bridge}\ndelete table ip {bridge}\ntable ip {bridge} {{\n{out}\
         chain walls {{ type filter hook forward priority 0; {walls} }}\n}}\n"
    )
}

/// A rule, as `iptables` takes it.
struct Rule {
    table: &'static str,
    chain: &'static str,
    /// How it is added: the rules of others come after those that have to be heard first.
    added: &'static str,
    words: Vec<String>,
}

impl Rule {
    fn words(&self, what: &'static str) -> Vec<&str> {
        let head = ["-w", "-t", self.table, what, self.chain];
        head.into_iter().chain(self.words.iter().map(String::as_str)).collect()
    }
}

/// The rules of a bridge. Those of a table are put first one after another, so that the last one here is the first.
fn rules(bridge: &str, subnet: Subnet, internal: bool) -> Vec<Rule> {
    let rule = |table, chain, added, words: &str| Rule {
        table,
        chain,
        added,
        words: words.split_whitespace().map(str::to_owned).collect(),
    };
    let forward = |words: String| rule("filter", "FORWARD", "-I", &words);
    // What stays on a bridge is filtered too, where the kernel is told to (`br_netfilter`): Docker refuses all that it
    // does not know.
    let within = forward(format!("-i {bridge} -o {bridge} -j ACCEPT"));
    // Nobody reaches a unit from outside but by the ports that it publishes.
    let no_way_in = forward(format!("-o {bridge} -j DROP"));
    if internal {
        return vec![no_way_in, forward(format!("-i {bridge} -j DROP")), within];
    }
    vec![
        rule("nat", "POSTROUTING", "-A", &format!("-s {subnet} ! -o {bridge} -j MASQUERADE")),
        no_way_in,
        forward(format!("-o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")),
        forward(format!("-i {bridge} -j ACCEPT")),
        forward(format!("-i {bridge} -o sp-+ -j DROP")),
        within,
    ]
}

/// All of these at once, one table after another, as `iptables-restore` takes them: a process for each rule would be the
/// longest part of a start.
fn batch(rules: &[Rule], what: impl Fn(&Rule) -> &'static str) -> String {
    let mut text = String::new();
    for of_table in rules.chunk_by(|one, next| one.table == next.table) {
        let _ = writeln!(text, "*{}", of_table[0].table);
        for rule in of_table {
            let _ = writeln!(text, "{} {} {}", what(rule), rule.chain, rule.words.join(" "));
        }
        text.push_str("COMMIT\n");
    }
    text
}

/// Changes rules beside those of others.
fn restore(iptables: &Path, batch: &str) -> Result<(), String> {
    run(&iptables.with_file_name("iptables-restore"), &["--noflush", "-w"], batch)
}

fn run(program: &Path, words: &[&str], input: &str) -> Result<(), String> {
    let failed = |why: &dyn std::fmt::Display| format!("`{}` failed: {why}", program.display());
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    // What ends without reading tells why by its end.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let done = child.wait_with_output().map_err(|error| failed(&error))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(failed(&String::from_utf8_lossy(&done.stderr).trim())),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn what_is_dropped_comes_before_what_is_accepted() {
        let rules = rules("sp-1", Subnet::of(Ipv4Addr::new(10, 1, 2, 0), 24), false);
        let of = |what: &str| rules.iter().position(|rule| rule.words.join(" ") == what).unwrap();
        assert!(of("-i sp-1 -o sp-1 -j ACCEPT") > of("-i sp-1 -o sp-+ -j DROP"));
        assert!(of("-i sp-1 -o sp-+ -j DROP") > of("-i sp-1 -j ACCEPT"));
        assert_eq!(
            rules[0].words("-D").join(" "),
            "-w -t nat -D POSTROUTING -s 10.1.2.0/24 ! -o sp-1 -j MASQUERADE"
        );
    }
}
