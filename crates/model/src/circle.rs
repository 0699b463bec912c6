//! Circles among things that need each other.

use std::collections::BTreeSet;

/// The circles that are found from these things, in their order, each once: what each in it needs is the next one, and
/// what the last one needs is the first. It is looked for without recursion, since a chain may be as long as there
/// are things.
pub(crate) fn circles<'a, K: Ord>(
    all: impl Iterator<Item = &'a K>,
    needed: impl Fn(&K) -> Vec<&'a K>,
) -> Vec<Vec<&'a K>> {
    let mut done = BTreeSet::new();
    all.filter_map(|from| circle(from, &needed, &mut done)).collect()
}

fn circle<'a, K: Ord>(
    from: &'a K,
    needed: &impl Fn(&K) -> Vec<&'a K>,
    done: &mut BTreeSet<&'a K>,
) -> Option<Vec<&'a K>> {
    if done.contains(from) {
        return None;
    }
    let mut way = vec![from];
    let mut open = vec![needed(from)];
    while let Some(rest) = open.last_mut() {
        let Some(next) = rest.pop() else {
            open.pop();
            done.extend(way.pop());
            continue;
        };
        if let Some(begin) = way.iter().position(|earlier| *earlier == next) {
            done.extend(&way);
            return Some(way.split_off(begin));
        }
        if !done.contains(next) {
            open.push(needed(next));
            way.push(next);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The circles of things that are letters, each given with what it needs.
    fn found(text: &str) -> Vec<String> {
        let all: BTreeMap<char, Vec<char>> = text
            .split_whitespace()
            .map(|word| (word.chars().next().unwrap(), word[1..].chars().collect()))
            .collect();
        let needed = |name: &char| all.get(name).into_iter().flatten().collect();
        circles(all.keys(), needed).into_iter().map(|circle| circle.into_iter().collect()).collect()
    }

    #[test]
    fn each_circle_is_found_once_and_from_outside_too() {
        assert_eq!(found("ab bc c"), Vec::<String>::new());
        assert_eq!(found("abc bd cd d"), Vec::<String>::new());
        assert_eq!(found("aa"), ["a"]);
        assert_eq!(found("ab ba ca"), ["ab"]);
        assert_eq!(found("ab bc cb"), ["bc"]);
        assert_eq!(found("ab ba cd dc"), ["ab", "cd"]);
    }
}
