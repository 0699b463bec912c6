//! The check of a manifest against its schema, which finds everything that is wrong with its shape at once. It runs
//! only where reading has failed, to say why.

use serde_json::Value as Json;

use super::document::{Document, inside, written};
use super::format;
use super::nearest::nearest;
use super::problem::Problem;
use super::source::Span;
use super::tree::{Data, Node, Step};

/// Reports everything that does not fit the schema, and takes it out of the document.
///
/// `later` are the keys of a table that are known and not supported yet, which somebody else reports.
pub(crate) fn check(document: &mut Document<'_>, schema: &Json, later: Later) {
    let (path, tables, findings) = (Vec::new(), Vec::new(), Vec::new());
    let mut walk = Walk { root: schema, later, document, path, tables, findings };
    walk.value(schema, &document.tree);
    for finding in walk.findings {
        document.report(finding.span, finding.problem);
        document.prune(finding.path);
    }
}

/// The keys of the table at a path that are known and not supported yet.
pub(crate) type Later = fn(&[Step]) -> Vec<&'static str>;

/// Something that does not fit.
struct Finding {
    span: Span,
    problem: Problem,
    /// What has to go, so that the rest can be read.
    path: Vec<Step>,
}

struct Walk<'w, 'a> {
    root: &'w Json,
    later: Later,
    document: &'w Document<'a>,
    /// Where the walk is.
    path: Vec<Step>,
    /// The schemas of the tables on the way here, with the lengths of their paths.
    tables: Vec<(usize, &'w Json)>,
    findings: Vec<Finding>,
}

impl<'w> Walk<'w, '_> {
    fn report(&mut self, span: Span, problem: Problem) {
        self.findings.push(Finding { span, problem, path: self.path.clone() });
    }

    /// A schema without references, as the alternatives that it allows.
    fn alternatives(&self, schema: &'w Json) -> Vec<&'w Json> {
        let schema = resolve(self.root, schema);
        match schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array) {
            Some(several) => several.iter().map(|one| resolve(self.root, one)).collect(),
            None => vec![schema],
        }
    }

    fn value(&mut self, schema: &'w Json, node: &Node) {
        let alternatives = self.alternatives(schema);
        let fitting: Vec<&Json> = alternatives.iter().copied().filter(|one| fits(one, node)).collect();
        let Some(first) = fitting.first() else {
            let problem = self.wrong_type(schema, &alternatives, node);
            return self.report(node.span, problem);
        };
        let words: Vec<&str> = fitting.iter().filter_map(|one| one.get("const")?.as_str()).collect();
        match &node.data {
            Data::Text(text) if !words.is_empty() => {
                if !words.contains(&text.as_str()) {
                    let problem = self.wrong_word(text, &words);
                    self.report(node.span, problem);
                }
            }
            Data::Text(text) => self.format(first, node, text),
            Data::Integer(number) => {
                self.format(first, node, &number.to_string());
                self.bounds(first, node, *number);
            }
            Data::Float(_) | Data::Flag(_) => {}
            Data::List(items) => {
                let Some(schema) = first.get("items") else { return };
                for (index, item) in items.iter().enumerate() {
                    self.path.push(index.into());
                    self.value(schema, item);
                    self.path.pop();
                }
            }
            Data::Table(_) => self.table(first, node),
        }
    }

    fn format(&mut self, schema: &Json, node: &Node, text: &str) {
        let Some(name) = schema.get("format").and_then(Json::as_str) else { return };
        if let Err(malformed) = format::check(name, text) {
            let span = match &malformed.range {
                Some(range) => self.document.sources.within(node.span, text, range.clone()),
                None => node.span,
            };
            self.report(span, malformed.into_problem());
        }
    }

    fn bounds(&mut self, schema: &Json, node: &Node, number: i64) {
        let bound = |name: &str| schema.get(name).and_then(Json::as_i64);
        let wanted = match (bound("minimum"), bound("maximum")) {
            (Some(minimum), _) if number < minimum => format!("at least {minimum}"),
            (_, Some(maximum)) if number > maximum => format!("at most {maximum}"),
            _ => return,
        };
        let what = format!("{} must be {wanted}, not {number}", self.subject());
        self.report(node.span, Problem::new("bad-number", what));
    }

    fn table(&mut self, schema: &'w Json, node: &Node) {
        self.tables.push((self.path.len(), schema));
        let properties = schema.get("properties");
        for (key, entry) in node.entries() {
            let known = properties.and_then(|properties| properties.get(key));
            if known.is_none() && (self.later)(&self.path).contains(&key) {
                continue;
            }
            let further = schema.get("additionalProperties").filter(|further| further.is_object());
            self.path.push(key.into());
            match known.or(further) {
                Some(value) => {
                    self.key(schema, key, entry.key);
                    self.value(value, &entry.node);
                }
                None => {
                    let problem = self.unknown_key(schema, key);
                    self.report(entry.key, problem);
                }
            }
            self.path.pop();
        }
        let required = schema.get("required").and_then(Json::as_array);
        for key in required.into_iter().flatten().filter_map(Json::as_str) {
            if node.entry(key).is_none() {
                let what = format!("`{key}` is missing{}", inside(&self.path));
                self.report(node.span, Problem::new("missing-key", what));
            }
        }
        self.tables.pop();
    }

    /// Checks the key of a table whose keys have a form.
    fn key(&mut self, schema: &Json, key: &str, span: Span) {
        let name = schema.get("propertyNames").and_then(|names| names.get("format")).and_then(Json::as_str);
        if let Some(Err(malformed)) = name.map(|name| format::check(name, key)) {
            self.report(span, malformed.into_problem());
        }
    }

    fn unknown_key(&self, schema: &Json, key: &str) -> Problem {
        let above = &self.path[..self.path.len() - 1];
        let place = if above.is_empty() { " at the top".to_owned() } else { inside(above) };
        let problem = Problem::new("unknown-key", format!("unknown key `{key}`{place}"));
        let known: Vec<&str> = names(schema).collect();
        if let Some(belongs) = self.belongs(schema, above, key) {
            return problem.hint(format!("`{key}` belongs in [{belongs}]"));
        }
        if let Some(near) = nearest(key, known.iter().copied().chain((self.later)(above))) {
            return problem.hint(format!("did you mean `{near}`?"));
        }
        problem.hint(format!("known here: {}", known.join(", ")))
    }

    /// The table next to this one that has this key: one that it lies in, or one that lies in it.
    fn belongs(&self, schema: &Json, above: &[Step], key: &str) -> Option<String> {
        let has = |schema: &Json| names(schema).any(|name| name == key);
        let around = self.tables.iter().rev().skip(1).find(|(_, table)| has(table));
        if let Some((length, _)) = around {
            return (*length > 0).then(|| written(&self.path[..*length]));
        }
        let below = schema.get("properties")?.as_object()?;
        below.iter().find_map(|(name, value)| {
            let value = resolve(self.root, value);
            let named = value.get("additionalProperties").map(|value| resolve(self.root, value));
            let mut path = above.to_vec();
            path.push(name.as_str().into());
            if has(value) {
                return Some(written(&path));
            }
            named.filter(|named| has(named)).map(|_| format!("{}.NAME", written(&path)))
        })
    }

    fn wrong_word(&self, text: &str, words: &[&str]) -> Problem {
        let listed: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        let (subject, listed) = (self.subject(), one_of(&listed));
        let problem = Problem::new("unknown-word", format!("{subject} must be {listed}, not `{text}`"));
        match nearest(text, words.iter().copied()) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem,
        }
    }

    fn wrong_type(&self, schema: &Json, alternatives: &[&Json], node: &Node) -> Problem {
        let wanted: Vec<&str> = alternatives.iter().flat_map(|one| types(one)).collect();
        let mut kinds: Vec<String> = wanted.iter().map(|name| with_article(name)).collect();
        kinds.dedup();
        let (subject, kinds) = (self.subject(), one_of(&kinds));
        let raw = self.document.sources.slice(node.span).unwrap_or_default();
        let found = match node.data {
            Data::Integer(_) | Data::Float(_) => format!("the number {raw}"),
            Data::Flag(_) => format!("`{raw}`"),
            _ => with_article(kind(node)),
        };
        let problem = Problem::new("wrong-type", format!("{subject} must be {kinds}, not {found}"));
        match self.in_the_right_type(schema, alternatives, &wanted, node) {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }

    /// What was probably meant, written as it should be.
    fn in_the_right_type(
        &self,
        schema: &Json,
        alternatives: &[&Json],
        wanted: &[&str],
        node: &Node,
    ) -> Option<String> {
        let raw = self.document.sources.slice(node.span).unwrap_or_default();
        let wants = |name: &str| wanted.contains(&name);
        let key = match self.path.last() {
            Some(key @ Step::Key(_)) => format!("{} = ", written(std::slice::from_ref(key))),
            _ => String::new(),
        };
        let meant = match &node.data {
            Data::Integer(_) | Data::Float(_) | Data::Flag(_) if wants("string") => {
                let format = alternatives.iter().find_map(|one| one.get("format")?.as_str());
                let good = format.is_none_or(|name| format::check(name, raw).is_ok());
                good.then(|| format!("\"{raw}\""))
            }
            Data::Text(text) if wants("integer") || wants("number") => {
                text.parse::<f64>().is_ok().then(|| text.clone())
            }
            Data::Text(text) if wants("boolean") => {
                ["true", "false"].contains(&text.as_str()).then(|| text.clone())
            }
            Data::Text(text) if wants("array") && !text.contains(['\n', '"', '\'', '\\']) => {
                let items = alternatives.iter().find_map(|one| one.get("items"))?;
                let words: Vec<String> = text.split_whitespace().map(|word| format!("\"{word}\"")).collect();
                let of_texts = types(resolve(self.root, items)).contains(&"string");
                (of_texts && !words.is_empty()).then(|| format!("[{}]", words.join(", ")))
            }
            Data::List(items)
                if wants("object") && items.iter().all(|item| matches!(item.data, Data::Table(_))) =>
            {
                return Some(format!("a table stands in single brackets: `[{}]`", written(&self.path)));
            }
            _ => None,
        };
        if let Some(meant) = meant {
            return Some(format!("write `{key}{meant}`"));
        }
        let examples = |schema: &Json| schema.get("examples")?.as_array()?.first().map(as_toml);
        let example = examples(schema).or_else(|| alternatives.iter().find_map(|one| examples(one)));
        match example {
            Some(example) => Some(format!("for example `{key}{example}`")),
            None if !wants("object") => None,
            None => {
                let named = alternatives.iter().any(|one| one.get("propertyNames").is_some());
                let name = if named { ".NAME" } else { "" };
                Some(format!("a table begins with its name on a line: `[{}{name}]`", written(&self.path)))
            }
        }
    }

    /// What the walk is at, as the subject of a sentence: "`packs[1]` in [env.dev]".
    fn subject(&self) -> String {
        let key = self.path.iter().rposition(|step| matches!(step, Step::Key(_))).unwrap_or(0);
        match &self.path[key..] {
            [Step::Key(_)] if key == 0 => format!("[{}]", written(&self.path)),
            last => format!("`{}`{}", written(last), inside(&self.path[..key])),
        }
    }
}

/// Follows the reference of a schema.
fn resolve<'s>(root: &'s Json, schema: &'s Json) -> &'s Json {
    let target = schema.get("$ref").and_then(Json::as_str).and_then(|reference| reference.strip_prefix('#'));
    target.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

/// The keys that a schema knows.
fn names(schema: &Json) -> impl Iterator<Item = &str> {
    schema
        .get("properties")
        .and_then(Json::as_object)
        .into_iter()
        .flat_map(|map| map.keys().map(String::as_str))
}

/// The types that a schema allows.
fn types(schema: &Json) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(one)) => vec![one],
        Some(Json::Array(several)) => several.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Whether a value is of a type that a schema allows.
fn fits(schema: &Json, node: &Node) -> bool {
    let types = types(schema);
    let kind = kind(node);
    types.contains(&kind) || (kind == "integer" && types.contains(&"number"))
}

/// The type of a value, as schemas call it.
fn kind(node: &Node) -> &'static str {
    match node.data {
        Data::Text(_) => "string",
        Data::Integer(_) => "integer",
        Data::Float(_) => "number",
        Data::Flag(_) => "boolean",
        Data::List(_) => "array",
        Data::Table(_) => "object",
    }
}

/// A type as people call it.
fn with_article(name: &str) -> String {
    match name {
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        "array" => "a list",
        "object" => "a table",
        other => other,
    }
    .to_owned()
}

/// "a, b or c".
fn one_of(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [some @ .., last] => format!("{} or {last}", some.join(", ")),
    }
}

/// A JSON value as it is written in TOML.
fn as_toml(value: &Json) -> String {
    match value {
        Json::Array(items) => format!("[{}]", items.iter().map(as_toml).collect::<Vec<_>>().join(", ")),
        Json::Object(table) => {
            let entries = table.iter().map(|(key, value)| format!("{key} = {}", as_toml(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}
