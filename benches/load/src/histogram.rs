//! Latencies, counted in buckets of at most 1.6 % width.

/// Buckets per power of two.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// Counts of nanoseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max_ns: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { buckets: vec![0; bucket_of(u64::MAX) + 1], count: 0, max_ns: 0 }
    }
}

impl Histogram {
    pub fn record(&mut self, ns: u64) {
        self.buckets[bucket_of(ns)] += 1;
        self.count += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    pub fn clear(&mut self) {
        self.buckets.fill(0);
        (self.count, self.max_ns) = (0, 0);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn max_us(&self) -> f64 {
        self.max_ns as f64 / 1000.0
    }

    /// Microseconds that this share of all does not exceed; 0 without any.
    pub fn quantile_us(&self, share: f64) -> f64 {
        let wanted = (self.count as f64 * share).ceil().max(1.0);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if *count > 0 && seen as f64 >= wanted {
                return (upper_ns(bucket).min(self.max_ns)) as f64 / 1000.0;
            }
        }
        0.0
    }
}

fn bucket_of(ns: u64) -> usize {
    if ns < STEPS {
        return ns as usize;
    }
    let power = ns.ilog2() - STEP_BITS;
    let step = (ns >> power) - STEPS;
    ((u64::from(power) + 1) * STEPS + step) as usize
}

fn upper_ns(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let (power, step) = (bucket / STEPS - 1, bucket % STEPS);
    ((u128::from(STEPS + step + 1) << power) - 1).min(u128::from(u64::MAX)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_within_a_step() {
        let mut histogram = Histogram::default();
        for ns in 1..=100_000u64 {
            histogram.record(ns * 10);
        }
        for (share, us) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0)] {
            let found = histogram.quantile_us(share);
            assert!((found / us - 1.0).abs() < 0.017, "{share}: {found}");
        }
        assert_eq!(Histogram::default().quantile_us(0.5), 0.0);
    }

    #[test]
    fn buckets_follow_each_other() {
        for ns in (0..100_000).chain([u64::MAX - 1, u64::MAX]) {
            let bucket = bucket_of(ns);
            assert!(upper_ns(bucket) >= ns && (bucket == 0 || upper_ns(bucket - 1) < ns), "{ns}");
        }
    }
}
