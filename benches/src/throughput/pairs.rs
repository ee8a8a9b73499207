//! Two contestants round by round: how their figures relate, and how sure that is.
#![forbid(unsafe_code)]

/// The ratios of each round, in order.
pub struct Pairs(Vec<f64>);

impl Pairs {
    /// Of figures of the same rounds.
    pub fn of(ours: &[f64], theirs: &[f64]) -> Self {
        let pairs = ours.iter().zip(theirs).filter(|(_, theirs)| **theirs > 0.0);
        let mut ratios: Vec<f64> = pairs.map(|(ours, theirs)| ours / theirs).collect();
        ratios.sort_by(f64::total_cmp);
        Self(ratios)
    }

    /// The median of the ratios; 0 without any.
    pub fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }

    /// Bounds between which the true median lies in 95 of 100 runs, by order statistics: nothing is
    /// assumed of how figures are spread.
    pub fn bounds(&self) -> (f64, f64) {
        let n = self.0.len();
        let beyond = outside(n);
        match (self.0.get(beyond), n.checked_sub(beyond + 1).and_then(|at| self.0.get(at))) {
            (Some(&low), Some(&high)) if low <= high => (low, high),
            _ => (0.0, f64::INFINITY),
        }
    }

    /// Whether the median reaches `ratio`, and its bound comes no further than 0.02 short of it;
    /// and the target in words. Fewer than [`PAIRS_MIN`] pairs decide nothing.
    pub fn judge(&self, ratio: f64, at_most: bool) -> (bool, String) {
        let (low, high) = self.bounds();
        let met = if at_most {
            self.median() <= ratio && high <= ratio + SHORT
        } else {
            self.median() >= ratio && low >= ratio - SHORT
        };
        let sign = if at_most { "at most" } else { "at least" };
        let enough = self.0.len() >= PAIRS_MIN;
        let few = if enough { "" } else { ", too few pairs to conclude" };
        let words =
            format!("{sign} {ratio} (95 %: {low:.2} .. {high:.2}, {} pairs{few})", self.0.len());
        (met && enough, words)
    }
}

/// How many of `n` ordered values may be left out on each side: the chance that the median is
/// beyond them is 2.5 % at most.
fn outside(n: usize) -> usize {
    let mut chance = 0.5_f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
    let (mut sum, mut count) = (0.0, 0);
    while count < n {
        sum += chance;
        if sum > 0.025 {
            break;
        }
        chance *= (n - count) as f64 / (count + 1) as f64;
        count += 1;
    }
    // `count` values are surely enough to be left out; the one after them is the bound.
    count.saturating_sub(1)
}

/// As few as a conclusion is drawn from.
const PAIRS_MIN: usize = 21;

/// How far the bound may be short of the target.
const SHORT: f64 = 0.02;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_tables_of_order_statistics() {
        // The 95 % interval of the median of 21 values is from the 6th to the 16th, as printed in
        // tables of the sign test.
        let ours: Vec<f64> = (1..=21).map(f64::from).collect();
        let pairs = Pairs::of(&ours, &[1.0; 21]);
        assert_eq!((pairs.median(), pairs.bounds()), (11.0, (6.0, 16.0)));
        let few = Pairs::of(&[1.0, 2.0], &[1.0; 2]);
        assert!(!few.judge(0.0, false).0, "two pairs prove nothing");
    }

    #[test]
    fn a_wide_spread_is_not_enough_although_the_median_is() {
        let ours: Vec<f64> = (0..21).map(|i| 0.5 + 0.06 * f64::from(i)).collect();
        let pairs = Pairs::of(&ours, &[1.0; 21]);
        assert!(pairs.median() > 1.0 && !pairs.judge(1.0, false).0);
        assert!(Pairs::of(&[1.01; 21], &[1.0; 21]).judge(1.0, false).0);
        assert!(!Pairs::of(&[0.99; 21], &[1.0; 21]).judge(1.0, false).0);
    }
}
