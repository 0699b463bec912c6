//! How units reach what is outside of the host: their addresses are replaced by the host's own, by its filter of
//! packets. The programs for it are the system's; without them, networks work and nothing leads out of them.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use setpoint_sandbox::Subnet;

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// What a process without a `PATH` of the administrator's finds them in.
const ALSO: &str = "/usr/sbin:/sbin:/usr/local/sbin";

/// Which program sets the rules. Where there are both, `iptables`: what Docker or a firewall refuses by it, no rule of
/// the other can allow.
enum Program {
    Iptables(PathBuf),
    Nft(PathBuf),
}

fn program() -> Option<Program> {
    let path = std::env::var("PATH").unwrap_or_default();
    let find = |name: &str| {
        path.split(':')
            .chain(ALSO.split(':'))
            .map(|folder| Path::new(folder).join(name))
            .find(|file| file.is_file())
    };
    find("iptables").map(Program::Iptables).or_else(|| find("nft").map(Program::Nft))
}

/// Whether something can lead out of networks on this machine.
pub(in crate::engine::embedded) fn is_there() -> bool {
    program().is_some()
}

/// Opens the way out of a bridge that has none, unless it is internal, and closes the one into the bridges of others. Nothing without
/// a program for it.
pub(super) fn open(bridge: &str, subnet: Subnet, internal: bool) -> Result<(), String> {
    let Some(program) = program() else { return Ok(()) };
    if !internal && fs::read_to_string(FORWARD).is_ok_and(|now| now.trim() == "0") {
        fs::write(FORWARD, "1").map_err(|error| format!("cannot write {FORWARD}: {error}"))?;
    }
    match program {
        Program::Nft(_) if internal => Ok(()),
        Program::Nft(nft) => run(&nft, &["-f", "-"], &table(bridge, subnet)),
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
            rules(bridge, subnet, internal)
                .iter()
                .for_each(|rule| drop(run(&iptables, &rule.words("-D"), "")));
        }
    }
}

/// A table of its own, which is made anew if it is there.
fn table(bridge: &str, subnet: Subnet) -> String {
    format!(
        "table ip {bridge}\ndelete table ip {bridge}\ntable ip {bridge} {{\n\
         chain out {{ type nat hook postrouting priority 100; ip saddr {subnet} oifname != \"{bridge}\" masquerade; }}\n\
         chain between {{ type filter hook forward priority 0; \
         iifname \"{bridge}\" oifname != \"{bridge}\" oifname \"sp-*\" drop; }}\n}}\n"
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
    if internal {
        return vec![within];
    }
    vec![
        rule("nat", "POSTROUTING", "-A", &format!("-s {subnet} ! -o {bridge} -j MASQUERADE")),
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
