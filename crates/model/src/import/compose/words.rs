//! A command in one text, split into words as a shell would.

/// The words of a command: quotes hold words together, a backslash takes the next character as it is. Nothing else
/// of a shell is meant; the error says what is not closed.
pub(super) fn split(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or("a `'` is never closed")? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or("a `\"` is never closed")? {
                        '"' => break,
                        '\\' => match characters.next().ok_or("a `\"` is never closed")? {
                            '\n' => {}
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => match characters.next().ok_or("it ends with a `\\` that takes nothing")? {
                '\n' => {}
                c => word.get_or_insert_default().push(c),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_those_of_a_shell() {
        for (text, words) in [
            ("", &[] as &[&str]),
            ("  a  b\n c ", &["a", "b", "c"]),
            ("sh -c 'echo \"x  y\"'", &["sh", "-c", "echo \"x  y\""]),
            ("a\"b c\"d", &["ab cd"]),
            ("\"a\\\"b\\n\"", &["a\"b\\n"]),
            ("a\\ b '' \"\"", &["a b", "", ""]),
            ("a \\\n b", &["a", "b"]),
            ("--x='y z'", &["--x=y z"]),
            ("a && b | c > d", &["a", "&&", "b", "|", "c", ">", "d"]),
        ] {
            assert_eq!(split(text), Ok(words.iter().map(|&word| word.to_owned()).collect()), "{text}");
        }
    }

    #[test]
    fn what_is_not_closed_is_told() {
        for text in ["'a", "\"a", "a\\", "\"a\\"] {
            assert!(split(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn words_in_quotes_come_back(words in proptest::collection::vec("[^']{0,8}", 0..6)) {
            let text: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
            prop_assert_eq!(split(&text.join(" ")), Ok(words));
        }
    }
}
