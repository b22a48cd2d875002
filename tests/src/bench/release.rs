//! What a client sees of one release: when the new version first answered, and the longest time without an answer.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::load::{Answers, Load};
use crate::wait::eventually;

/// Requests a second of the client that watches: a gap is known to 10 ms.
const RATE: u32 = 100;
/// A release that takes longer has failed.
const LIMIT: Duration = Duration::from_mins(2);

/// One release, as the client saw it.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// When the new version answered for the first time.
    pub served: Instant,
    /// The longest time between two good answers, from the publication until the side had finished.
    pub gap: Duration,
}

/// Watches `url` while `publish` publishes `version`, until it answers and `finished` says that the side is done.
pub fn watch<T>(
    url: &str,
    version: &str,
    publish: impl FnOnce() -> Result<T>,
    finished: impl FnOnce(&T) -> Result<()>,
) -> Result<(T, Seen)> {
    let load = Load::start(url, RATE)?;
    eventually(LIMIT, "the old version answers", || {
        let answers = load.so_far();
        ensure!(answers.0.last().is_some_and(|probe| probe.answer.is_ok()), "no good answer");
        Ok(())
    })?;
    let begin = Instant::now();
    let published = publish()?;
    eventually(LIMIT, &format!("{version} answers"), || {
        first_answer(&load.so_far(), version).map(drop).context("it does not")
    })?;
    finished(&published)?;
    let answers = load.stop();
    let served = first_answer(&answers, version).context("its answer is lost")?;
    Ok((published, Seen { served, gap: longest_gap(&answers, begin) }))
}

fn first_answer(answers: &Answers, version: &str) -> Option<Instant> {
    let good = answers.0.iter().filter(|probe| probe.answer.as_ref().is_ok_and(|served| served.version == version));
    good.map(|probe| probe.ended).min()
}

fn longest_gap(answers: &Answers, begin: Instant) -> Duration {
    let mut good: Vec<Instant> = answers.0.iter().filter(|p| p.answer.is_ok()).map(|p| p.ended).collect();
    good.sort_unstable();
    // The last answer before the publication begins the first gap.
    let pairs = good.windows(2).filter(|pair| pair[1] >= begin);
    pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prober::{Probe, Served};

    #[test]
    fn gap_and_first_answer_are_of_good_answers_in_the_order_in_which_they_came() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let good =
            |version: &str| Ok(Served { version: version.into(), container: String::new(), site: String::new() });
        let probe = |sent, ended, answer| Probe { sent: at(sent), ended: at(ended), answer };
        let answers = Answers(vec![
            probe(0, 1, good("a")),
            probe(500, 501, good("a")),
            probe(510, 900, good("b")),
            probe(520, 521, Err("no".into())),
            probe(530, 700, good("b")),
            probe(540, 720, good("a")),
        ]);
        assert_eq!(first_answer(&answers, "b"), Some(at(700)));
        assert_eq!(first_answer(&answers, "c"), None);
        assert_eq!(longest_gap(&answers, at(502)), Duration::from_millis(199));
        assert_eq!(longest_gap(&answers, at(400)), Duration::from_millis(500));
    }
}
