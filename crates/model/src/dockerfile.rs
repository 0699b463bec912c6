//! What a Dockerfile takes of its context: enough to tell which files an image depends on, and on which line an
//! instruction stands.

use std::collections::BTreeMap;

/// What the instructions of a Dockerfile take of its context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copied {
    /// What fits these patterns, from the context's top, in order of the file. A pattern that fits a folder means all
    /// that is in it.
    Patterns(Vec<String>),
    /// Nobody can say without running it: a path depends on a variable whose value is not known here.
    Anything,
}

/// An instruction, with its arguments as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// The line on which it begins, counted from 1.
    pub line: u32,
    /// Its keyword, in capitals.
    pub keyword: String,
    /// What follows, with the lines that it is continued on.
    pub rest: String,
}

impl Copied {
    /// A test whether a file of the context is taken, by its path from the top.
    pub fn matcher(&self) -> impl Fn(&str) -> bool + use<> {
        let globs: Option<Vec<_>> = match self {
            Self::Anything => None,
            Self::Patterns(patterns) => {
                Some(patterns.iter().filter_map(|pattern| crate::dockerignore::matcher(pattern)).collect())
            }
        };
        move |path| {
            let Some(globs) = &globs else { return true };
            let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
            ends.into_iter().any(|end| globs.iter().any(|glob| glob.is_match(&path[..end])))
        }
    }
}

/// The instructions of a Dockerfile, without comments and without the bodies of here-documents.
#[must_use]
pub fn instructions(text: &str) -> Vec<Instruction> {
    let escape = escape_character(text);
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((index, first)) = lines.next() {
        let trimmed = first.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let mut whole = String::new();
        let mut piece = trimmed;
        loop {
            match piece.strip_suffix(escape) {
                None => {
                    whole.push_str(piece);
                    break;
                }
                Some(begun) => {
                    whole.push_str(begun);
                    whole.push(' ');
                }
            }
            // Comments and blank lines within a continued instruction are no part of it, and do not end it.
            let next = loop {
                match lines.next() {
                    Some((_, line)) if line.trim().is_empty() || line.trim().starts_with('#') => {}
                    other => break other,
                }
            };
            match next {
                Some((_, line)) => piece = line.trim(),
                None => break,
            }
        }
        let (keyword, rest) = whole.split_once(char::is_whitespace).unwrap_or((&whole, ""));
        let keyword = keyword.to_ascii_uppercase();
        if matches!(keyword.as_str(), "RUN" | "COPY" | "ADD") {
            for (end, strips_tabs) in here_documents(rest) {
                for (_, line) in lines.by_ref() {
                    let line = if strips_tabs { line.trim_start_matches('\t') } else { line };
                    if line == end {
                        break;
                    }
                }
            }
        }
        let line = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
        found.push(Instruction { line, keyword, rest: rest.trim().to_owned() });
    }
    found
}

/// What the instructions take of the context. The arguments are those that the build is given.
#[must_use]
pub fn copied(text: &str, arguments: &BTreeMap<String, String>) -> Copied {
    let mut patterns: Vec<String> = Vec::new();
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for instruction in instructions(text) {
        let words = words(&instruction.rest);
        match instruction.keyword.as_str() {
            "ARG" => {
                for word in &words {
                    let (name, default) =
                        word.split_once('=').map_or((word.as_str(), None), |(n, v)| (n, Some(v)));
                    let given = arguments.get(name).map(String::as_str).or(default);
                    // One without a value may have been given before the first stage.
                    if let Some(value) = given.and_then(|value| expand(value, &known)) {
                        known.insert(name.to_owned(), value);
                    } else if given.is_some() {
                        known.remove(name);
                    }
                }
            }
            "ENV" => {
                for word in &words {
                    let Some((name, value)) = word.split_once('=') else { continue };
                    match expand(value, &known) {
                        Some(value) => known.insert(name.to_owned(), value),
                        None => known.remove(name),
                    };
                }
            }
            "COPY" | "ADD" => {
                if words.iter().any(|word| word.starts_with("--from=")) {
                    continue;
                }
                let operands = operands(&instruction.rest, &words);
                let Some((_, sources)) = operands.split_last() else { continue };
                for source in sources.iter().filter(|source| !is_elsewhere(source)) {
                    match expand(source, &known) {
                        Some(source) => patterns.push(from_top(&source)),
                        None => return Copied::Anything,
                    }
                }
            }
            "RUN" => {
                for options in words.iter().filter_map(|word| word.strip_prefix("--mount=")) {
                    match mounted(options, &known) {
                        Some(Some(source)) => patterns.push(source),
                        Some(None) => {}
                        None => return Copied::Anything,
                    }
                }
            }
            _ => {}
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    patterns.retain(|pattern| seen.insert(pattern.clone()));
    Copied::Patterns(patterns)
}

/// The character that continues a line: a backslash, unless the first lines say otherwise.
fn escape_character(text: &str) -> char {
    for line in text.lines() {
        let Some(comment) = line.trim().strip_prefix('#') else { break };
        let Some((key, value)) = comment.split_once('=') else { break };
        if key.trim().eq_ignore_ascii_case("escape") {
            return value.trim().chars().next().unwrap_or('\\');
        }
    }
    '\\'
}

/// The here-documents that an instruction begins: the line that ends each, and whether tabs before it do not count.
fn here_documents(rest: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for word in words(rest) {
        let Some((before, after)) = word.split_once("<<") else { continue };
        if !before.chars().all(|c| c.is_ascii_digit()) || after.starts_with('<') {
            continue;
        }
        let (name, strips) = after.strip_prefix('-').map_or((after, false), |name| (name, true));
        let name = name.trim_matches(['"', '\'']);
        let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.is_empty();
        if is_name {
            found.push((name.to_owned(), strips));
        }
    }
    found
}

/// The words of an instruction, with quotes taken away.
fn words(rest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = rest.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => found.extend(word.take()),
            (Some('"') | None, '\\') => word.get_or_insert_default().extend(characters.next()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    found.extend(word);
    found
}

/// What COPY and ADD name: a list in JSON, or words; without options and here-documents.
fn operands(rest: &str, words: &[String]) -> Vec<String> {
    let begin = rest.find('[').filter(|at| rest[..*at].split_whitespace().all(|word| word.starts_with("--")));
    if let Some(list) = begin.and_then(|at| serde_json::from_str::<Vec<String>>(&rest[at..]).ok()) {
        return list;
    }
    words.iter().filter(|word| !word.starts_with("--") && !word.starts_with("<<")).cloned().collect()
}

/// Whether a source of ADD is not of the context.
fn is_elsewhere(source: &str) -> bool {
    ["http://", "https://", "git@", "git://", "ssh://"].iter().any(|scheme| source.starts_with(scheme))
}

/// What a mount of a step takes of the context; `Some(None)` for nothing, `None` where nobody can say.
fn mounted(options: &str, known: &BTreeMap<String, String>) -> Option<Option<String>> {
    let option = |names: &[&str]| {
        options.split(',').find_map(|option| {
            let (name, value) = option.split_once('=')?;
            names.contains(&name).then_some(value)
        })
    };
    if option(&["type"]).unwrap_or("bind") != "bind" || option(&["from"]).is_some() {
        return Some(None);
    }
    let source = option(&["source", "src"]).unwrap_or(".");
    expand(source, known).map(|source| Some(from_top(&source)))
}

/// A path as a pattern from the context's top; the top itself is everything.
fn from_top(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.is_empty() { "**".to_owned() } else { parts.join("/") }
}

/// A text with its variables put in; nothing if one is not known here.
fn expand(text: &str, known: &BTreeMap<String, String>) -> Option<String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, default, end) = match after.strip_prefix('{') {
            Some(braced) => {
                let end = braced.find('}')?;
                let (name, default) = match braced[..end].split_once(":-") {
                    Some((name, default)) => (name, Some(default)),
                    None => (&braced[..end], None),
                };
                (name, default, end + 2)
            }
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                (&after[..end], None, end)
            }
        };
        expanded.push_str(known.get(name).map(String::as_str).or(default)?);
        rest = &after[end..];
    }
    expanded.push_str(rest);
    Some(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(text: &str) -> Vec<String> {
        match copied(text, &BTreeMap::new()) {
            Copied::Patterns(patterns) => patterns,
            Copied::Anything => panic!("anything"),
        }
    }

    #[test]
    fn what_copy_and_add_name_is_taken_and_nothing_else() {
        let text = "FROM debian AS base\nRUN apt-get update\nCOPY package.json ./web/ /app/\n\
                    ADD --chown=1:1 [\"a b\", \"/c\"]\nADD https://x.example/y /y\nCOPY --from=base /etc /etc\n";
        assert_eq!(patterns(text), ["package.json", "web", "a b"]);
        assert_eq!(patterns("COPY . /app"), ["**"]);
        assert_eq!(patterns("COPY . ."), ["**"]);
    }

    #[test]
    fn a_mount_of_a_step_takes_what_it_names() {
        assert_eq!(
            patterns(
                "RUN --mount=type=bind,source=Cargo.lock,target=/l --mount=type=cache,target=/c cargo build"
            ),
            ["Cargo.lock"]
        );
        assert_eq!(patterns("RUN --mount=target=. make"), ["**"]);
        assert_eq!(
            patterns("RUN --mount=type=bind,from=base,source=/x,target=/x true"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn lines_are_continued_over_comments_and_here_documents_are_no_instructions() {
        let text = "FROM x\nRUN a \\\n  # no\n\n  && b\nRUN <<EOF\nCOPY not this\nEOF\nCOPY <<-E /one\n\ttext\n\tE\nCOPY one two /\n";
        let found = instructions(text);
        let lines: Vec<_> = found.iter().map(|i| (i.line, i.keyword.as_str())).collect();
        assert_eq!(lines, [(1, "FROM"), (2, "RUN"), (6, "RUN"), (9, "COPY"), (12, "COPY")]);
        assert_eq!(found[1].rest, "a  && b");
        assert_eq!(patterns(text), ["one", "two"]);
    }

    #[test]
    fn what_lies_in_a_folder_that_is_taken_is_taken() {
        let taken = Copied::Patterns(vec!["web".to_owned(), "*.json".to_owned()]).matcher();
        assert!(taken("web/a/b") && taken("a.json") && taken("web"));
        assert!(!taken("a/b.json") && !taken("webs"));
        assert!(Copied::Anything.matcher()("x"));
    }

    #[test]
    fn another_escape_character_is_heard_of() {
        assert_eq!(patterns("# escape=`\nFROM x\nCOPY a `\n b /\n"), ["a", "b"]);
    }

    #[test]
    fn variables_are_put_in_where_their_values_are_known() {
        assert_eq!(patterns("ARG D=web\nFROM x\nARG D\nCOPY ${D}/x $D/y ${E:-z} /"), ["web/x", "web/y", "z"]);
        let given = BTreeMap::from([("D".to_owned(), "api".to_owned())]);
        assert_eq!(copied("ARG D=web\nCOPY $D /", &given), Copied::Patterns(vec!["api".to_owned()]));
        assert_eq!(copied("COPY $TARGETARCH/x /", &given), Copied::Anything);
    }
}
