//! Abstract schedules: what is to be tried, before it is known what is there to try it on.
//!
//! A step is a batch: how far time goes, and which deeds with which dice. `author` turns the dice into names that exist (or
//! don't). Shrinking drops steps and deeds, and dice towards zero.

use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

/// One batch.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Cluster time that passes before it, ms.
    pub(crate) passes_ms: u64,
    /// How many entries its leader had not applied yet.
    pub(crate) lag: u8,
    /// What is asked in it.
    pub(crate) deeds: Vec<Deed>,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Deed {
    pub(crate) what: What,
    pub(crate) signing: Signing,
    pub(crate) deadline: Deadline,
    pub(crate) dice: [u8; 10],
}

/// What a request asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    FleetCreate,
    FleetUpdate,
    FleetDelete,
    AgentRegister,
    AgentUpdate,
    AgentDelete,
    PersonAdd,
    PersonUpdate,
    PersonRemove,
    Kill,
    Resume,
    Approve,
    Withdraw,
    Revoke,
    PolicyUpdate,
    JoinTokenCreate,
    JoinTokenDelete,
    EdgeEnrol,
    EdgeUpdate,
    EdgeRemove,
    CredentialIssue,
    ReceiptRecord,
    BundlePropose,
    BundleEndorse,
    /// A command beyond the bound on its size.
    TooLarge,
    /// An earlier request once more, as it was.
    Replay,
    /// An earlier request with a later deadline.
    ReplayLater,
    /// Another command under an earlier id.
    ReuseId,
}

/// How a request is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signing {
    /// As an honest client would: all but kill, revoke and withdraw.
    AsUsual,
    Unsigned,
    Signed,
    /// With a key that isn't the caller's: somebody else's, or one they had.
    ForeignKey,
    /// A good signature over another request.
    OtherRequest,
    /// A good signature for another cluster.
    OtherCluster,
}

/// When a request lapses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deadline {
    Soon,
    Later,
    Passed,
    TooFar,
}

/// How much is there before a schedule begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Not even a genesis.
    Nothing,
    /// One person, and nothing else.
    Founded,
    /// Fleets, agents, and several people with roles.
    Staffed,
}

/// A start and what follows.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    pub(crate) start: Start,
    pub(crate) steps: Vec<Step>,
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        5 => Just(What::FleetCreate),
        6 => Just(What::FleetUpdate),
        3 => Just(What::FleetDelete),
        6 => Just(What::AgentRegister),
        5 => Just(What::AgentUpdate),
        3 => Just(What::AgentDelete),
        3 => Just(What::PersonAdd),
        4 => Just(What::PersonUpdate),
        2 => Just(What::PersonRemove),
        9 => Just(What::Kill),
        7 => Just(What::Resume),
        16 => Just(What::Approve),
        2 => Just(What::Withdraw),
        3 => Just(What::Revoke),
        4 => Just(What::PolicyUpdate),
        5 => Just(What::JoinTokenCreate),
        3 => Just(What::JoinTokenDelete),
        5 => Just(What::EdgeEnrol),
        4 => Just(What::EdgeUpdate),
        1 => Just(What::EdgeRemove),
        10 => Just(What::CredentialIssue),
        3 => Just(What::ReceiptRecord),
        3 => Just(What::BundlePropose),
        5 => Just(What::BundleEndorse),
        1 => Just(What::TooLarge),
        4 => Just(What::Replay),
        1 => Just(What::ReplayLater),
        1 => Just(What::ReuseId),
    ]
}

fn signing() -> impl Strategy<Value = Signing> {
    prop_oneof![
        24 => Just(Signing::AsUsual),
        2 => Just(Signing::Unsigned),
        2 => Just(Signing::Signed),
        1 => Just(Signing::ForeignKey),
        1 => Just(Signing::OtherRequest),
        1 => Just(Signing::OtherCluster),
    ]
}

fn deadline() -> impl Strategy<Value = Deadline> {
    prop_oneof![
        12 => Just(Deadline::Later),
        6 => Just(Deadline::Soon),
        1 => Just(Deadline::Passed),
        1 => Just(Deadline::TooFar),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    (what(), signing(), deadline(), any::<[u8; 10]>()).prop_map(|(what, signing, deadline, dice)| Deed {
        what,
        signing,
        deadline,
        dice,
    })
}

fn passes_ms() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => Just(0),
        6 => 1..500_u64,
        4 => 500..20_000_u64,
        2 => 20_000..400_000_u64,
        1 => 400_000..90_000_000_u64,
    ]
}

/// Batches with up to five requests each; empty ones are ticks.
pub(crate) fn steps(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    let lag = prop_oneof![4 => Just(0), 2 => 1..4_u8, 1 => 4..200_u8];
    let step = (passes_ms(), lag, vec(deed(), 0..5)).prop_map(|(passes_ms, lag, deeds)| Step {
        passes_ms,
        lag,
        deeds,
    });
    vec(step, len)
}

/// Whole schedules.
pub(crate) fn schedules(len: std::ops::Range<usize>) -> impl Strategy<Value = Schedule> {
    let start = prop_oneof![
        1 => Just(Start::Nothing),
        3 => Just(Start::Founded),
        8 => Just(Start::Staffed),
    ];
    (start, steps(len)).prop_map(|(start, steps)| Schedule { start, steps })
}

/// The schedule of a seed: always the same one.
pub(crate) fn of_seed(seed: u64, len: std::ops::Range<usize>) -> Schedule {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    schedules(len).new_tree(&mut TestRunner::new_with_rng(Config::default(), rng)).unwrap().current()
}

/// Dice that have been cast: each question takes the next one.
#[derive(Debug, Clone)]
pub(crate) struct Dice {
    bytes: [u8; 10],
    next: usize,
}

impl Dice {
    pub(crate) fn new(bytes: [u8; 10]) -> Self {
        Self { bytes, next: 0 }
    }

    /// A number below `sides`.
    pub(crate) fn below(&mut self, sides: usize) -> usize {
        let byte = self.bytes[self.next % self.bytes.len()];
        // Later rounds over the same dice must not repeat the first one's answers.
        let turn = byte.rotate_left((self.next / self.bytes.len()) as u32 * 3);
        self.next += 1;
        usize::from(turn) % sides
    }

    /// One of several.
    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// True in so many of ten casts.
    pub(crate) fn in_ten(&mut self, casts: usize) -> bool {
        self.below(10) < casts
    }
}
