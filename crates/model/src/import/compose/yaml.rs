//! From YAML to values with their places. Anchors, merge keys and the tags of Compose are taken in here.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, ScanError, YamlData};

use super::node::{Data, Entry, Node, Over};
use super::source::{Place, Source};
use crate::manifest::Problem;

/// How deeply values may be nested: what is deeper than that is no project, and would end the stack.
const DEEPEST: usize = 100;

/// The value that a file holds; a file without one is an empty map.
pub(super) fn parse(source: &Rc<Source>) -> Result<Node, Problem> {
    let text = source.text.as_str();
    if let Some(start) = too_deep(text) {
        let at = Place { source: Rc::clone(source), bytes: start..start + 1 };
        return Err(at.problem("too-deep", "this is nested too deeply to be read"));
    }
    let mut offsets: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    offsets.push(text.len());
    let mut reader = Reader { source, offsets, anchors: BTreeMap::new() };
    let documents =
        MarkedYaml::load_from_str(&without_merge_tags(text)).map_err(|error| reader.malformed(&error))?;
    let nothing = Node::new(reader.place(0, 0), Data::Map(Vec::new()));
    let (first, more) = match documents.as_slice() {
        [] => return Ok(nothing),
        [first, more @ ..] => (first, more.first()),
    };
    if let Some(more) = more {
        let at = reader.place(more.span.start.index(), more.span.start.index() + 1);
        let problem =
            at.problem("bad-yaml", "a compose file holds one document, and here a second one begins");
        return Err(problem.hint("remove the `---` before it, or make it a file of its own"));
    }
    let node = reader.node(first)?;
    Ok(if node.is_null() { nothing } else { node })
}

/// The text without the tag that some tools write along with `<<`, which a key cannot have here. All else stays where
/// it is.
fn without_merge_tags(text: &str) -> Cow<'_, str> {
    const TAGGED: &str = "!!merge <<";
    if !text.contains(TAGGED) {
        return Cow::Borrowed(text);
    }
    let plain = format!("{:<1$}", "<<", TAGGED.len());
    let lines = text.split_inclusive('\n').map(|line| match line.trim_start().strip_prefix(TAGGED) {
        Some(rest) => Cow::Owned(format!("{}{plain}{rest}", &line[..line.len() - rest.len() - TAGGED.len()])),
        None => Cow::Borrowed(line),
    });
    Cow::Owned(lines.collect())
}

/// Where it is nested too deeply. Every deeper indentation, every dash at the beginning of a line and every open
/// bracket count, wherever they are: to know better, the text would have to be read.
fn too_deep(text: &str) -> Option<usize> {
    let (mut start, mut open) = (0, 0_usize);
    let mut indents: Vec<usize> = Vec::new();
    for line in text.split_inclusive('\n') {
        let begin = line.find(|c: char| !c.is_whitespace()).unwrap_or(0);
        if !line.trim().is_empty() {
            while indents.last().is_some_and(|last| *last >= begin) {
                indents.pop();
            }
            indents.push(begin);
        }
        let dashes = line.split_whitespace().take_while(|word| matches!(*word, "-" | "?" | ":")).count();
        for (at, byte) in line.bytes().enumerate() {
            match byte {
                b'[' | b'{' => open += 1,
                b']' | b'}' => open = open.saturating_sub(1),
                _ => {}
            }
            if indents.len() + dashes + open > DEEPEST {
                return Some(start + at);
            }
        }
        start += line.len();
    }
    None
}

struct Reader<'a> {
    source: &'a Rc<Source>,
    /// Where each character begins, in bytes.
    offsets: Vec<usize>,
    /// How scalars with an anchor are written.
    anchors: BTreeMap<String, String>,
}

impl Reader<'_> {
    fn place(&self, start: usize, end: usize) -> Place {
        let byte = |index: usize| self.offsets.get(index).copied().unwrap_or(self.source.text.len());
        Place { source: Rc::clone(self.source), bytes: byte(start)..byte(end.max(start)) }
    }

    fn node(&mut self, yaml: &MarkedYaml<'_>) -> Result<Node, Problem> {
        let at = self.place(yaml.span.start.index(), yaml.span.end.index());
        self.value(yaml, &at)
    }

    /// A value at a place that is known: that within a tag has none of its own.
    fn value(&mut self, yaml: &MarkedYaml<'_>, at: &Place) -> Result<Node, Problem> {
        let data = match &yaml.data {
            YamlData::Tagged(tag, inner) => {
                let over = match (tag.handle.as_str(), tag.suffix.as_str()) {
                    ("!", "reset") => Over::Reset,
                    ("!", "override") => Over::Replace,
                    _ => {
                        let tag = tag.to_string();
                        let problem =
                            at.part(&tag).problem("unknown-tag", format!("there is no tag `{tag}`"));
                        return Err(problem.hint("Compose has `!reset` and `!override`"));
                    }
                };
                return Ok(Node { over, ..self.value(inner, at)? });
            }
            YamlData::Sequence(items) => {
                Data::List(items.iter().map(|item| self.node(item)).collect::<Result<_, _>>()?)
            }
            YamlData::Mapping(map) => {
                let mut entries = Vec::with_capacity(map.len());
                let mut merged = Vec::new();
                for (key, value) in map {
                    let key_at = self.place(key.span.start.index(), key.span.end.index());
                    let Some(key) = self.value(key, &key_at)?.scalar() else {
                        return Err(key_at.problem("bad-yaml", "a key must be text, not a list or a map"));
                    };
                    let value = self.node(value)?;
                    if key == "<<" {
                        merge_key(value, &key_at, &mut merged)?;
                    } else {
                        entries.push(Entry { key, key_at, value });
                    }
                }
                for entry in merged {
                    if !entries.iter().any(|own: &Entry| own.key == entry.key) {
                        entries.push(entry);
                    }
                }
                Data::Map(entries)
            }
            YamlData::Value(scalar) => self.scalar(scalar, at),
            YamlData::Representation(text, ..) => Data::Text(text.to_string()),
            YamlData::BadValue if at.raw().starts_with('!') => {
                return Err(at.problem("bad-yaml", "this value is not what its tag says"));
            }
            YamlData::BadValue | YamlData::Alias(_) => Data::Null,
        };
        Ok(Node::new(at.clone(), data))
    }

    /// A scalar; numbers are kept as they are written, which only the text knows.
    fn scalar(&mut self, scalar: &Scalar<'_>, at: &Place) -> Data {
        let mut raw = at.raw().trim();
        let mut anchor = None;
        while let Some(property) = raw.strip_prefix(['&', '!']) {
            let end = property.find(char::is_whitespace).unwrap_or(property.len());
            if raw.starts_with('&') {
                anchor = Some(property[..end].to_owned());
            }
            raw = property[end..].trim_start();
        }
        let written = match raw.strip_prefix('*').and_then(|name| self.anchors.get(name)) {
            Some(written) => written.clone(),
            None => raw.to_owned(),
        };
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, written.clone());
        }
        match scalar {
            Scalar::Null => Data::Null,
            Scalar::Boolean(value) => Data::Bool(*value),
            Scalar::Integer(_) | Scalar::FloatingPoint(_) => Data::Number(written),
            Scalar::String(text) => Data::Text(text.to_string()),
        }
    }

    /// What the scanner could not read, in words that say what to look for.
    fn malformed(&self, error: &ScanError) -> Problem {
        let index = error.marker().index();
        let mut at = self.place(index, index + 1);
        let info = error.info();
        if info.contains("duplicated key") {
            let key = self.source.text[at.bytes.start..].lines().next().unwrap_or_default();
            let key = key.split(':').next().unwrap_or_default().trim();
            at.bytes.end = at.bytes.start + key.len();
            return at
                .problem("duplicate-key", format!("`{key}` is here twice"))
                .why("only one of the values could count")
                .hint("remove one of them, or put both together");
        }
        let problem = at.problem("bad-yaml", "this is not YAML").why(info);
        match info {
            _ if info.contains("tabs disallowed") => problem.hint("indent with spaces"),
            _ if info.contains("unknown anchor") => {
                problem.hint("the `&name` that it refers to must come before it")
            }
            _ if info.contains("did not find expected") => {
                problem.hint("check that this line is indented as much as those that it belongs to")
            }
            _ if info.contains("quoted scalar") => problem.hint("check that the quote is closed"),
            _ if info.contains("unexpected character") => problem.hint("put the value in quotes"),
            _ if info.contains("mapping values are not allowed") => {
                problem.hint("check the indentation, and put a value that holds `: ` in quotes")
            }
            _ => problem,
        }
    }
}

/// The entries that `<<` brings in: of a map, or of several, the first of which counts most.
fn merge_key(value: Node, key_at: &Place, merged: &mut Vec<Entry>) -> Result<(), Problem> {
    match value.data {
        Data::Map(entries) => {
            for entry in entries {
                if !merged.iter().any(|earlier| earlier.key == entry.key) {
                    merged.push(entry);
                }
            }
            Ok(())
        }
        Data::List(maps) => maps.into_iter().try_for_each(|map| merge_key(map, key_at, merged)),
        Data::Null => Ok(()),
        _ => Err(key_at
            .problem("bad-yaml", format!("`<<` takes a map or a list of maps, not {}", value.kind()))
            .hint("such as `<<: *defaults`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Node {
        parse(&Source::new("compose.yaml", text)).unwrap_or_else(|problem| panic!("{problem}"))
    }

    #[test]
    fn scalars_are_those_of_yaml_1_2_and_numbers_stay_as_they_are_written() {
        let node = read("a: &x 1.10\nb: *x\nc: 22:22\nd: yes\ne: 0x10\nf: 012\ng: ~\nh: !!str 5\ni: True\n");
        let shown: Vec<String> =
            node.entries().iter().map(|entry| format!("{:?}", entry.value.data)).collect();
        assert_eq!(
            shown,
            [
                "Number(\"1.10\")",
                "Number(\"1.10\")",
                "Text(\"22:22\")",
                "Text(\"yes\")",
                "Number(\"0x10\")",
                "Number(\"012\")",
                "Null",
                "Text(\"5\")",
                "Bool(true)"
            ]
        );
    }

    #[test]
    fn merge_keys_bring_in_what_is_not_there() {
        for merge in ["<<", "!!merge <<", "\"<<\""] {
            let node = read(&format!(
                "a: &a {{x: 1, y: 1}}\nb: &b {{y: 2, z: 2}}\nc:\n  {merge}: [*a, *b]\n  x: 3\n"
            ));
            let c = node.get("c").map(Node::entries).unwrap_or_default();
            let shown: Vec<String> = c
                .iter()
                .map(|entry| format!("{}={}", entry.key, entry.value.scalar().unwrap_or_default()))
                .collect();
            assert_eq!(shown, ["x=3", "y=1", "z=2"], "{merge}");
        }
    }

    #[test]
    fn the_tags_of_compose_are_kept() {
        let node = read("a: !reset []\nb: !override\n  - x\nc: !reset\n");
        let over: Vec<Over> = node.entries().iter().map(|entry| entry.value.over).collect();
        assert_eq!(over, [Over::Reset, Over::Replace, Over::Reset]);
        assert_eq!(node.get("b").map(|b| b.items().len()), Some(1));
    }

    #[test]
    fn a_value_that_is_not_what_its_tag_says_is_refused() {
        assert!(parse(&Source::new("compose.yaml", "a: !!int x")).is_err());
        assert!(parse(&Source::new("compose.yaml", "a: !!binary aGk=")).is_err());
    }

    #[test]
    fn nothing_but_comments_is_an_empty_map() {
        assert!(read("").entries().is_empty());
        assert!(read("# x\n").entries().is_empty());
    }

    #[test]
    fn what_is_nested_without_end_is_refused() {
        for text in ["- ".repeat(20_000), "[".repeat(20_000), "? ".repeat(20_000), "{a: ".repeat(101)] {
            assert!(parse(&Source::new("compose.yaml", &text)).is_err());
        }
        let deep = |depth: usize| format!("a: {}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&Source::new("compose.yaml", &deep(DEEPEST - 1))).is_ok());
        assert!(parse(&Source::new("compose.yaml", &deep(DEEPEST))).is_err());
        let steps =
            |depth: usize| (0..depth).map(|step| format!("{}a:\n", " ".repeat(step))).collect::<String>();
        assert!(parse(&Source::new("compose.yaml", &steps(DEEPEST))).is_ok());
        assert!(parse(&Source::new("compose.yaml", &steps(DEEPEST + 1))).is_err());
    }
}
