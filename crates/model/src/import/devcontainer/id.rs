//! What tells a dev container from all others of its host: `${devcontainerId}`.

use std::collections::BTreeMap;

/// What is hashed, with SHA-256, to the id of the container that has these labels: their JSON, with sorted keys and
/// no spaces.
#[must_use]
pub fn id_input(labels: &BTreeMap<String, String>) -> String {
    let members: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{}:{}", serde_json::json!(name), serde_json::json!(value)))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// The id of a hash: its 256 bits as a number in base 32, with 52 digits of `0-9a-v`.
#[must_use]
pub fn id_of_hash(hash: &[u8; 32]) -> String {
    // 52 digits of 5 bits are 260 bits: the number begins with 4 bits of nothing.
    let bit = |index: usize| match index.checked_sub(4) {
        Some(index) => hash[index / 8] >> (7 - index % 8) & 1,
        None => 0,
    };
    (0..52)
        .map(|digit| {
            let value = (digit * 5..digit * 5 + 5).fold(0, |value, index| value << 1 | bit(index));
            char::from(if value < 10 { b'0' + value } else { b'a' + value - 10 })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_labels_are_sorted_and_without_spaces() {
        let labels = [
            ("devcontainer.local_folder", "/home/dev/shop"),
            ("devcontainer.config_file", "/home/dev/\"shop\"/.devcontainer.json"),
        ];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(
            id_input(&labels),
            r#"{"devcontainer.config_file":"/home/dev/\"shop\"/.devcontainer.json","devcontainer.local_folder":"/home/dev/shop"}"#
        );
        assert_eq!(id_input(&BTreeMap::new()), "{}");
    }

    #[test]
    fn a_hash_is_a_number_in_base_32() {
        let hash = "c5eb2d35f727f44f7407f0e67d1abaa8a1362cbaf0e2dadbafb73c823447676f";
        let bytes: Vec<u8> =
            (0..32).map(|index| u8::from_str_radix(&hash[index * 2..index * 2 + 2], 16).unwrap()).collect();
        let hash: [u8; 32] = bytes.try_into().unwrap();
        assert_eq!(id_of_hash(&hash), "1hfb5kqve9vk9tq0fs76fkdbla516ombls72rbdqvdpsg8q4eprf");
        assert_eq!(id_of_hash(&[0; 32]), "0".repeat(52));
        assert_eq!(id_of_hash(&[255; 32]), format!("1{}", "v".repeat(51)));
    }
}
