//! What stands for texts, however long they are: two that differ have two prints.

use sha2::{Digest, Sha256};

/// Between two parts of what is hashed; no part has it, being UTF-8.
const BETWEEN: [u8; 1] = [0xff];

fn hash<'t>(parts: impl IntoIterator<Item = &'t str>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update(BETWEEN);
    }
    hash.finalize().into()
}

/// To tell an event from others under its key.
pub(super) fn short<'t>(parts: impl IntoIterator<Item = &'t str>) -> u64 {
    let [print @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = hash(parts);
    u64::from_be_bytes(print)
}

/// To tell a key from all others.
pub(super) fn long<'t>(parts: impl IntoIterator<Item = &'t str>) -> u128 {
    let [print @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = hash(parts);
    u128::from_be_bytes(print)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let prints = [&["ab", "c"][..], &["a", "bc"], &["abc"], &["abc", ""], &["", "abc"], &["ab", "c"]];
        let short: Vec<_> = prints.iter().map(|parts| short(parts.iter().copied())).collect();
        let long: Vec<_> = prints.iter().map(|parts| long(parts.iter().copied())).collect();
        for (at, one) in short.iter().enumerate() {
            for (other, another) in short.iter().enumerate() {
                assert_eq!(one == another, at % 5 == other % 5, "{at} {other}");
                assert_eq!(long[at] == long[other], at % 5 == other % 5, "{at} {other}");
            }
        }
    }
}
