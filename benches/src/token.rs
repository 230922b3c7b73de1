//! `token` (P3): a token that was never seen before, from its text to the first verdict, beside one bare check of an Ed25519
//! signature; and one that was.
//!
//! The bare check is strict, by a key that is ready for use, over a message of the same length: all that anybody must do.
//! The two take turns in small portions, so that a machine that gets slower meanwhile slows both.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use clap::Args;
use ed25519_dalek::{Signature, VerifyingKey};

use crate::{
    General,
    edge::{ACTION, EdgeWorld, Sizes, failed},
    failure::Failure,
    machine::Machine,
    report::{self, Line},
    spread::Spread,
};

/// The target of P3.
const RATIO_MAX: f64 = 1.3;
/// Tokens, and bare checks, in one portion.
const PORTION: usize = 64;

/// What `token` takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct TokenArguments {
    /// Runs; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Tokens in each run
    #[arg(default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(64..))]
    tokens: u32,
}

/// Medians of one run, in µs.
#[derive(Debug, Clone, Copy)]
struct Figures {
    bare_us: f64,
    unseen_us: f64,
    seen_us: f64,
}

/// Runs the benchmark.
pub(crate) fn run(general: &General, arguments: &TokenArguments) -> Result<(), Failure> {
    let sizes = Sizes { agents: 10_000, kills: 10_000, revocations: 100_000 };
    let mut figures = Vec::new();
    for run in 1..=arguments.runs {
        eprintln!("run {run} of {}", arguments.runs);
        // A new enforcer each time: it remembers tokens.
        figures.push(measure(&EdgeWorld::new(sizes)?, sizes, arguments.tokens)?);
    }
    let spread =
        |of: fn(&Figures) -> f64| Spread::of(figures.iter().map(of)).expect("there is at least one run");
    let cases = [
        (false, spread(|run| run.unseen_us), spread(|run| run.unseen_us / run.bare_us)),
        (true, spread(|run| run.seen_us), spread(|run| run.seen_us / run.bare_us)),
    ];
    let bare = spread(|run| run.bare_us);
    general.show(&format!("{}\n\none bare strict check: {} µs\n", Machine::here(), report::spread(bare)));
    general.show(&table(&cases));
    let line = |(cached, median, ratio): &(bool, Spread, Spread)| {
        Line::new("token")
            .param("cached", *cached)
            .metric("median_us", *median)
            .metric("ratio_to_bare_verify", *ratio)
            .metric("bare_verify_us", bare)
    };
    general.show_json(&cases.iter().map(line).collect::<Vec<_>>());
    Ok(())
}

fn measure(world: &EdgeWorld, sizes: Sizes, count: u32) -> Result<Figures, Failure> {
    let tokens: Vec<String> =
        (0..count).map(|number| world.token(number.into(), sizes.agents)).collect::<Result<_, _>>()?;
    let key = VerifyingKey::from_bytes(&world.signer.public_key().0).map_err(|error| failed(&error))?;
    // Signatures of other tokens, each once: one that comes again and again is checked faster, by what the processor has
    // learnt of its course.
    let mut checks = Vec::new();
    for number in count..2 * count {
        let token = world.token(number.into(), sizes.agents)?;
        let signed = signed_part(&token)?.to_owned();
        let signature = Signature::from_bytes(&world.signer.sign(signed.as_bytes()));
        checks.push((signed, signature));
    }
    let mut checks = checks.iter();
    let (mut bare, mut unseen, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    for portion in tokens.chunks(PORTION) {
        for token in portion {
            let (message, signature) = checks.next().ok_or_else(|| failed(&"too few signatures"))?;
            let start = Instant::now();
            let checked = black_box(&key).verify_strict(black_box(message.as_bytes()), black_box(signature));
            bare.push(start.elapsed());
            checked.map_err(|error| failed(&error))?;
            unseen.push(first_verdict(world, token)?);
        }
        for token in portion {
            seen.push(first_verdict(world, token)?);
        }
    }
    Ok(Figures { bare_us: median_us(bare), unseen_us: median_us(unseen), seen_us: median_us(seen) })
}

/// From the token's text to a verdict.
fn first_verdict(world: &EdgeWorld, token: &str) -> Result<Duration, Failure> {
    let start = Instant::now();
    let session = world.core.session(black_box(token)).map_err(|refused| failed(&refused))?;
    let verdict = session.decide(black_box(&ACTION));
    let elapsed = start.elapsed();
    verdict.denial().map_or(Ok(elapsed), |denial| Err(failed(denial)))
}

/// What a token's signature is over.
fn signed_part(token: &str) -> Result<&str, Failure> {
    token.rsplit_once('.').map(|(signed, _)| signed).ok_or_else(|| failed(&"a token without a signature"))
}

fn median_us(times: Vec<Duration>) -> f64 {
    let spread = Spread::of(times.into_iter().map(|time| time.as_secs_f64() * 1e6));
    spread.expect("there is at least one token").median
}

fn table(cases: &[(bool, Spread, Spread)]) -> String {
    let heading =
        ["P3", "median µs", "ratio to a bare check", "target", "verdict"].map(str::to_owned).to_vec();
    let row = |(cached, median, ratio): &(bool, Spread, Spread)| {
        let name = if *cached { "a token seen before" } else { "an unseen token, to its first verdict" };
        let verdict = if ratio.median <= RATIO_MAX { "holds" } else { "FALLS SHORT" };
        vec![
            name.to_owned(),
            report::spread(*median),
            report::spread(*ratio),
            format!("≤ {RATIO_MAX}"),
            verdict.to_owned(),
        ]
    };
    report::table(&std::iter::once(heading).chain(cases.iter().map(row)).collect::<Vec<_>>())
}
