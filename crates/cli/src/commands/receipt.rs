//! `haltline receipt`: showing the signed receipt of a kill, and checking one without any node.
//!
//! A receipt's file is JSON. What counts in it is `canonical`, the very bytes that a node signed; the readable part must
//! say the same, or the receipt is refused, because people read that part.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::Path,
};

use haltline_core::{
    attest::{KnownBundle, follow_changes},
    command::Signature,
    event::TrustBundleChange,
    ids::{ClusterId, Incarnation, KillId, NodeId},
    limits::RECEIPT_FILE_BYTES_MAX,
    receipt::{EnforcedRule, Fenced, FencedWhy, MemberClear, Receipt, SignedReceipt},
};
use haltline_pki::{PersonIdentity, TrustBundle};
use haltline_wire::v1::{self, enforcement_service_client::EnforcementServiceClient};
use serde_json::{Value, json};

use super::{Session, describe, resource, trust};
use crate::{
    args::{
        Global,
        enforcers::{ReceiptCommand, ReceiptShowArgs, ReceiptVerifyArgs},
    },
    client::{Client, identity_directory},
    exit::Exit,
    failure::Failure,
    output::{
        Render, Screen,
        page::{Page, counted},
        table::Tone,
        times,
        value::{hex, json_pretty},
    },
};

/// Carries out one of them.
pub(super) async fn run(command: ReceiptCommand, global: &Global, screen: Screen) -> Result<Exit, Failure> {
    match command {
        ReceiptCommand::Show(args) => show(&Session::open(global, screen)?, &args).await,
        ReceiptCommand::Verify(args) => {
            let keys = Keys::load(&args, global)?;
            let signed = read(&args.file)?;
            keys.check(&signed)?;
            screen.print(&Verified { signed: &signed, keys: &keys })?;
            Ok(Exit::Done)
        }
    }
}

async fn show(session: &Session, args: &ReceiptShowArgs) -> Result<Exit, Failure> {
    let signed = fetch(&session.client, args.kill).await?;
    let bundle = session.client.identity().bundle();
    if Keys::of_bundle(bundle).check(&signed).is_err() {
        // The node may have another key by now, which the changes prove.
        let changes = trust::Trust::ask(&session.client).await?.changes;
        Keys::with_changes(bundle, &changes)?.check(&signed)?;
    }
    if let Some(out) = &args.out {
        write(out, &signed)?;
    }
    session.show(&Shown(&signed))?;
    if let Some(out) = &args.out {
        session.screen.remark(&format!("Wrote it to {}; nothing in it is secret.", out.display()));
    }
    Ok(Exit::Done)
}

/// The receipt of one kill.
pub(crate) async fn fetch(client: &Client, kill: KillId) -> Result<SignedReceipt, Failure> {
    let answer = client
        .call("asking for the receipt", |channel| async move {
            EnforcementServiceClient::new(channel).get_receipt(v1::GetReceiptRequest { kill: kill.0 }).await
        })
        .await?;
    let signed =
        SignedReceipt::try_from(answer).map_err(|error| resource::unreadable("a receipt", &error))?;
    if signed.receipt.kill == kill {
        Ok(signed)
    } else {
        Err(Failure::protocol(format!(
            "asked for the receipt of {kill}, a node sent that of {}",
            signed.receipt.kill
        )))
    }
}

/// Whom a receipt is believed: the cluster, and its nodes' keys in every bundle that is proven.
struct Keys {
    cluster: ClusterId,
    /// The oldest first.
    bundles: Vec<KnownBundle>,
}

impl Keys {
    fn of_bundle(bundle: &TrustBundle) -> Self {
        Self { cluster: bundle.cluster(), bundles: vec![trust::known(bundle)] }
    }

    /// The keys of a bundle and of all that follow from it.
    fn with_changes(bundle: &TrustBundle, changes: &[TrustBundleChange]) -> Result<Self, Failure> {
        let cluster = bundle.cluster();
        let bundles = follow_changes(cluster, trust::known(bundle), changes).map_err(|error| {
            let message = format!("the changes of the keys don't follow from the trust bundle: {error}");
            Failure::new(Exit::Broken, error.code(), message)
        })?;
        Ok(Self { cluster, bundles })
    }

    fn load(args: &ReceiptVerifyArgs, global: &Global) -> Result<Self, Failure> {
        let hint =
            "name the cluster's trust bundle with --trust-bundle FILE, or your identity with --identity DIR";
        let usage =
            |error: haltline_pki::PkiError| Failure { exit: Exit::Usage, ..Failure::from(error) }.hint(hint);
        let bundle = match &args.trust_bundle {
            Some(file) => TrustBundle::load(file).map_err(usage)?,
            None => PersonIdentity::load(&identity_directory(global)).map_err(usage)?.bundle().clone(),
        };
        match &args.changes {
            None => Ok(Self::of_bundle(&bundle)),
            Some(file) => {
                let wrong = |why: String| {
                    Failure::usage(format!("can't read {}: {why}", file.display()))
                        .hint("`haltline trust export FILE` writes one")
                };
                let changes = trust::changes_from_json(&read_text(file).map_err(wrong)?).map_err(wrong)?;
                Self::with_changes(&bundle, &changes)
            }
        }
    }

    fn check(&self, signed: &SignedReceipt) -> Result<(), Failure> {
        let receipt = &signed.receipt;
        if receipt.cluster_id != self.cluster {
            let message = format!(
                "the receipt is of cluster {}, and the trust bundle of {}",
                receipt.cluster_id, self.cluster
            );
            return Err(Failure::new(Exit::Broken, "WRONG_CLUSTER", message));
        }
        // A key that was replaced meanwhile signed what it signed.
        let mut refused = None;
        for (_, keys) in self.bundles.iter().rev() {
            let key = |id: NodeId| keys.iter().find(|(node, _)| *node == id).map(|(_, key)| *key);
            match signed.verify(key) {
                Ok(()) => return Ok(()),
                Err(error) => drop(refused.get_or_insert(error)),
            }
        }
        refused.map_or(Ok(()), |error| {
            let failure =
                Failure::new(Exit::Broken, error.code(), format!("the receipt doesn't hold: {error}"));
            let (version, _) = self.bundles.last().cloned().unwrap_or_default();
            Err(failure.hint(format!(
                "the keys known here are those up to version {version} of the trust bundle; if node {} has a new one since, \
                 `haltline trust export FILE` proves it: give it with --changes FILE",
                receipt.signer
            )))
        })
    }
}

/// Reads a receipt's file. Whose signature it has isn't looked at yet.
fn read(path: &Path) -> Result<SignedReceipt, Failure> {
    let cant =
        |error: &dyn std::fmt::Display| Failure::usage(format!("can't read {}: {error}", path.display()));
    let text = read_text(path).map_err(|why| cant(&why))?;
    parse(&text).map_err(|failure| match failure.exit {
        Exit::Usage => cant(&failure.message).hint("`haltline receipt show KILL --out FILE` writes one"),
        _ => failure,
    })
}

/// A file of bounded size.
fn read_text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(RECEIPT_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > RECEIPT_FILE_BYTES_MAX {
        return Err(format!(
            "it is larger than {RECEIPT_FILE_BYTES_MAX} bytes, so it isn't what it should be"
        ));
    }
    Ok(text)
}

fn parse(text: &str) -> Result<SignedReceipt, Failure> {
    let file: Value =
        serde_json::from_str(text).map_err(|error| Failure::usage(format!("it is no JSON: {error}")))?;
    let canonical = file
        .get("canonical")
        .and_then(Value::as_str)
        .and_then(bytes_of_hex)
        .ok_or_else(|| Failure::usage("it has no `canonical` in hexadecimal, so it is no receipt"))?;
    let altered = |message: String| Failure::new(Exit::Broken, "RECEIPT_ALTERED", message);
    let signed = SignedReceipt::from_bytes(&canonical)
        .map_err(|error| altered(format!("the receipt doesn't hold: {error}")))?;
    let expected = value(&signed);
    let differing = |name: &&String| file.get(name.as_str()) != expected.get(name.as_str());
    let fields = |value: &Value| value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
    let names = [fields(&expected), fields(&file)].into_iter().flatten().flatten().collect::<Vec<_>>();
    match names.iter().find(differing) {
        None => Ok(signed),
        Some(name) => Err(altered(format!("the receipt doesn't hold: `{name}` isn't what was signed"))),
    }
}

pub(super) fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

fn write(path: &Path, signed: &SignedReceipt) -> Result<(), Failure> {
    let cant = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::usage(format!("{} exists already", path.display()))
            .hint("name another file with --out, or move that one away"),
        _ => Failure::local(format!("can't write {}: {error}", path.display())),
    };
    let mut file = File::create_new(path).map_err(cant)?;
    file.write_all((json_pretty(&value(signed)) + "\n").as_bytes()).map_err(cant)
}

const fn rule_name(rule: EnforcedRule) -> &'static str {
    match rule {
        EnforcedRule::Acked => "acked",
        EnforcedRule::Fenced => "fenced",
    }
}

const fn why_name(why: FencedWhy) -> &'static str {
    match why {
        FencedWhy::Silent => "silent",
        FencedWhy::Gone => "gone",
        FencedWhy::Untrusted => "untrusted_relay",
    }
}

const fn member_name(clear: MemberClear) -> &'static str {
    match clear {
        MemberClear::Clear => "clear",
        MemberClear::WaitedOut => "waited_out",
    }
}

/// A receipt for programs, and as it stands in its file.
pub(crate) fn value(signed: &SignedReceipt) -> Value {
    let receipt = &signed.receipt;
    let Signature(signature) = signed.signature;
    let fenced = |fenced: &Fenced| json!({ "name": fenced.name.to_string(), "why": why_name(fenced.why) });
    let member =
        |(node, clear): &(NodeId, MemberClear)| json!({ "node": node.0, "how": member_name(*clear) });
    json!({
        "cluster_id": receipt.cluster_id.to_string(),
        "incarnation": receipt.incarnation.0,
        "kill": receipt.kill.to_string(),
        "selector": receipt.selector.to_string(),
        "mode": describe::mode_text(receipt.mode),
        "reason": receipt.reason.to_string(),
        "by": receipt.by.to_string(),
        "index": receipt.index.0,
        "placed": resource::stamp_value(Some(&receipt.placed.into())),
        "committed_wall_time": times::wall_millis(receipt.committed_wall),
        "enforced_wall_time": times::wall_millis(receipt.enforced_wall),
        "took_ms": receipt.took.0,
        "rule": rule_name(receipt.rule),
        "bound_ms": receipt.bound.0,
        "max_staleness_ms": receipt.max_staleness.0,
        "drift_ppm": receipt.drift_ppm,
        "enforcers_acked": receipt.enforcers_acked,
        "fenced": receipt.fenced.iter().map(fenced).collect::<Vec<_>>(),
        "fenced_more": receipt.fenced_more,
        "unbounded": receipt.unbounded.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "unbounded_more": receipt.unbounded_more,
        "members": receipt.members.iter().map(member).collect::<Vec<_>>(),
        "signer": receipt.signer.0,
        "canonical": hex(&signed.to_bytes()),
        "signature": hex(&signature),
    })
}

/// A receipt for people.
pub(crate) struct Shown<'a>(pub(crate) &'a SignedReceipt);

fn names_and_more(names: &[String], more: u64) -> Option<String> {
    match (names.is_empty(), more) {
        (true, 0) => None,
        (_, 0) => Some(names.join(", ")),
        (_, more) => Some(format!("{} and {more} more", names.join(", "))),
    }
}

impl Shown<'_> {
    fn facts(&self, page: &mut Page) {
        let receipt: &Receipt = &self.0.receipt;
        let fenced =
            receipt.fenced.iter().map(|fenced| format!("{} ({})", fenced.name, why_words(fenced.why)));
        let waited_out = receipt.members.iter().filter(|(_, clear)| *clear == MemberClear::WaitedOut);
        let waited_out: Vec<String> = waited_out.map(|(node, _)| format!("node {node}")).collect();
        let unbounded: Vec<String> = receipt.unbounded.iter().map(ToString::to_string).collect();
        let incarnation = (receipt.incarnation != Incarnation(0)).then(|| receipt.incarnation.to_string());
        page.facts([
            ("stops", Some(receipt.selector.to_string())),
            ("mode", Some(describe::mode_text(receipt.mode))),
            ("reason", Some(receipt.reason.to_string())),
            ("by", Some(receipt.by.to_string())),
            ("log index", Some(receipt.index.to_string())),
            ("committed", Some(times::wall_millis(receipt.committed_wall))),
            ("enforced", Some(times::wall_millis(receipt.enforced_wall))),
            ("took", Some(times::exact(receipt.took))),
            ("bound", Some(bound_text(receipt))),
            ("acked", Some(counted(receipt.enforcers_acked, "enforcer"))),
            ("waited out", names_and_more(&fenced.collect::<Vec<_>>(), receipt.fenced_more)),
            ("nodes waited out", names_and_more(&waited_out, 0)),
            ("unbounded", names_and_more(&unbounded, receipt.unbounded_more)),
            ("incarnation", incarnation),
            ("signed by", Some(format!("node {} of cluster {}", receipt.signer, receipt.cluster_id))),
        ]);
    }
}

const fn why_words(why: FencedWhy) -> &'static str {
    match why {
        FencedWhy::Silent => "silent",
        FencedWhy::Gone => "gone",
        FencedWhy::Untrusted => "a relay whose word doesn't count",
    }
}

fn bound_text(receipt: &Receipt) -> String {
    format!(
        "{} after the commit, from a max staleness of {}",
        times::exact(receipt.bound),
        times::exact(receipt.max_staleness)
    )
}

impl Render for Shown<'_> {
    fn page(&self, page: &mut Page) {
        let receipt = &self.0.receipt;
        let how = match receipt.rule {
            EnforcedRule::Acked => "everyone who could permit has acknowledged it",
            EnforcedRule::Fenced => "who didn't acknowledge it was waited out",
        };
        page.toned(format!("{} is enforced: {how}.", receipt.kill), Tone::Good);
        self.facts(page);
        if !receipt.unbounded.is_empty() {
            page.toned("Enforcers that fail open may permit whenever they can't decide.", Tone::Warn);
        }
    }

    fn value(&self) -> Value {
        value(self.0)
    }
}

struct Verified<'a> {
    signed: &'a SignedReceipt,
    keys: &'a Keys,
}

impl Render for Verified<'_> {
    fn page(&self, page: &mut Page) {
        let receipt = &self.signed.receipt;
        page.toned(
            format!("The receipt holds: node {} of cluster {} signed it.", receipt.signer, self.keys.cluster),
            Tone::Good,
        );
        Shown(self.signed).page(page);
    }

    fn value(&self) -> Value {
        json!({ "verified": true, "receipt": value(self.signed) })
    }
}

#[cfg(test)]
mod tests {
    use haltline_core::{
        command::KillMode,
        ids::LogIndex,
        lease::{Drift, bound},
        time::{ClusterTime, Millis, Stamp, WallTime},
    };
    use haltline_pki::{ClusterPki, NewNode};

    use super::*;
    use crate::{args::Format, output::style::Style};

    fn cluster() -> ClusterPki {
        ClusterPki::create(&[NewNode { id: NodeId(1), hosts: vec![] }]).expect("keys")
    }

    fn signed(cluster: &ClusterPki) -> SignedReceipt {
        let (max_staleness, drift) = (Millis(2_000), Drift::default());
        let stamp = Stamp {
            index: LogIndex(41),
            cluster_time: ClusterTime(9),
            wall_time: WallTime(1_700_000_000_000),
        };
        let receipt = Receipt {
            cluster_id: cluster.cluster(),
            incarnation: Incarnation(0),
            kill: KillId(7),
            selector: "fleet=acme/finance".parse().expect("a selector"),
            mode: KillMode::Freeze,
            reason: "runaway".parse().expect("a reason"),
            by: "ada".parse().expect("a name"),
            index: LogIndex(41),
            placed: stamp,
            committed_wall: WallTime(1_700_000_000_003),
            enforced_wall: WallTime(1_700_000_002_008),
            took: Millis(2_005),
            rule: EnforcedRule::Fenced,
            bound: bound(max_staleness, drift),
            max_staleness,
            drift_ppm: drift.ppm(),
            enforcers_acked: 3,
            fenced: vec![Fenced { name: "eu-gate".parse().expect("a name"), why: FencedWhy::Gone }],
            fenced_more: 0,
            unbounded: vec!["lab".parse().expect("a name")],
            unbounded_more: 0,
            members: vec![(NodeId(1), MemberClear::Clear), (NodeId(2), MemberClear::WaitedOut)],
            signer: NodeId(1),
        };
        let signature = Signature(cluster.nodes()[0].signer().sign(&receipt.to_bytes()));
        SignedReceipt { receipt, signature }
    }

    fn screen(format: Format) -> Screen {
        Screen { format, width: 100, style: Style::plain(), error_style: Style::plain() }
    }

    #[test]
    fn a_receipts_file_is_read_back_and_holds() {
        let (cluster, home) = (cluster(), tempfile::tempdir().expect("a directory"));
        let (signed, path) = (signed(&cluster), home.path().join("kill-7.json"));
        write(&path, &signed).expect("a new file");
        assert_eq!(write(&path, &signed).expect_err("no overwriting").exit, Exit::Usage);
        let read = read(&path).expect("a receipt");
        assert_eq!(read, signed);
        Keys::of_bundle(cluster.bundle()).check(&read).expect("it holds");
        // What -o json prints is such a file too.
        assert_eq!(parse(&screen(Format::Json).rendered(&Shown(&signed))).expect("a receipt"), signed);
    }

    #[test]
    fn whatever_was_changed_is_found() {
        let cluster = cluster();
        let (whole, keys) = (value(&signed(&cluster)), Keys::of_bundle(cluster.bundle()));
        let failure = |file: &Value| {
            let found = parse(&file.to_string()).and_then(|signed| keys.check(&signed));
            found.expect_err("it doesn't hold")
        };
        for name in whole.as_object().expect("fields").keys() {
            let mut altered = whole.clone();
            altered[name] = json!("something else");
            assert_ne!(failure(&altered).exit, Exit::Done, "{name}");
            let mut cut = whole.clone();
            cut.as_object_mut().expect("fields").remove(name);
            assert_ne!(failure(&cut).exit, Exit::Done, "{name}");
        }
        let mut reworded = whole;
        reworded["reason"] = json!("nothing much");
        let failure = failure(&reworded);
        assert_eq!((failure.exit, failure.reason.as_str()), (Exit::Broken, "RECEIPT_ALTERED"));
        assert_eq!(failure.message, "the receipt doesn't hold: `reason` isn't what was signed");
    }

    #[test]
    fn a_receipt_holds_for_its_own_cluster_and_signer_only() {
        let (ours, theirs) = (cluster(), cluster());
        let signed = signed(&ours);
        let failure =
            |keys: Keys, signed: &SignedReceipt| keys.check(signed).expect_err("it doesn't hold").reason;
        assert_eq!(failure(Keys::of_bundle(theirs.bundle()), &signed), "WRONG_CLUSTER");
        let forged = SignedReceipt {
            signature: Signature(theirs.nodes()[0].signer().sign(&signed.receipt.to_bytes())),
            ..signed.clone()
        };
        assert_eq!(failure(Keys::of_bundle(ours.bundle()), &forged), "BAD_SIGNATURE");
        let nobody =
            Keys { cluster: ours.cluster(), bundles: vec![(haltline_core::ids::Version(1), Vec::new())] };
        assert_eq!(failure(nobody, &signed), "UNKNOWN_KEY");
    }

    #[test]
    fn a_receipt_is_told_to_people() {
        let shown = screen(Format::Table).rendered(&Shown(&signed(&cluster())));
        let told = shown.rsplit_once("signed by").map(|(told, _)| told).expect("the signer comes last");
        insta::assert_snapshot!(told, @r"
        kill-7 is enforced: who didn't acknowledge it was waited out.
        stops             fleet=acme/finance
        mode              freeze
        reason            runaway
        by                ada
        log index         41
        committed         2023-11-14T22:13:20.003Z
        enforced          2023-11-14T22:13:22.008Z
        took              2.005 s
        bound             2.002 s after the commit, from a max staleness of 2 s
        acked             3 enforcers
        waited out        eu-gate (gone)
        nodes waited out  node 2
        unbounded         lab
        ");
    }

    #[test]
    fn what_is_no_receipt_says_so() {
        for text in ["", "{}", "[]", "{\"canonical\":\"zz\"}", "{\"canonical\":\"abc\"}"] {
            assert_eq!(parse(text).expect_err(text).exit, Exit::Usage, "{text}");
        }
        assert_eq!(parse("{\"canonical\":\"00\"}").expect_err("too short").exit, Exit::Broken);
    }
}
