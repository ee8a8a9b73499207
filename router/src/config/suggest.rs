//! Suggests the word that was probably meant.
#![forbid(unsafe_code)]

/// The candidate closest to `word`, if it can be a typing mistake: at most one edit (or two swapped
/// letters) for every three letters. Case, and `_` for `-`, do not count.
pub fn did_you_mean<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    if word.len() > LONGEST {
        return None;
    }
    let fold = |text: &str| text.to_lowercase().replace('_', "-");
    let folded = fold(word);
    let allowed = folded.chars().count().div_ceil(3);
    candidates
        .iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|&candidate| (strsim::osa_distance(&folded, &fold(candidate)), candidate))
        .filter(|&(distance, _)| distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The edit distance takes time proportional to the product of both lengths.
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_leaves_other_words_alone() {
        let names = ["fra", "par", "ams", "peer-addresses", "addresses"];
        for (word, want) in [
            ("frs", Some("fra")),
            ("FRA", Some("fra")),
            ("far", Some("fra")),
            ("peer_addresses", Some("peer-addresses")),
            ("adresses", Some("addresses")),
            ("london", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(did_you_mean(word, &names), want, "{word}");
        }
        assert_eq!(did_you_mean(&"f".repeat(100_000), &names), None);
    }
}
