//! Medians and quartiles.
#![forbid(unsafe_code)]

/// A set of measurements in order.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// The smallest.
    pub min: f64,
    /// The first quartile.
    pub p25: f64,
    /// The median.
    pub p50: f64,
    /// The third quartile.
    pub p75: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// Of any number of values, by the nearest rank; zeros for none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let rank = |share: f64| {
            let index = (values.len().saturating_sub(1) as f64 * share).round() as usize;
            values.get(index).copied().unwrap_or_default()
        };
        Self { min: rank(0.0), p25: rank(0.25), p50: rank(0.5), p75: rank(0.75), max: rank(1.0) }
    }

    /// Half of the distance between the quartiles.
    pub fn half_spread(&self) -> f64 {
        (self.p75 - self.p25) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_of_few_and_of_many() {
        assert_eq!(Summary::of([]), Summary::default());
        let one = Summary::of([3.0]);
        assert_eq!((one.min, one.p50, one.max), (3.0, 3.0, 3.0));
        let many = Summary::of((0..=100).rev().map(f64::from));
        assert_eq!((many.min, many.p25, many.p50, many.p75, many.max), (0., 25., 50., 75., 100.));
        assert!((many.half_spread() - 25.0).abs() < 1e-9);
    }
}
