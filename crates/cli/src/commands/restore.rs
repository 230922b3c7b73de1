//! `haltline restore`: a cluster that goes on from a backup, and what to do with each part of it.

use std::collections::BTreeSet;

use haltline_core::{ids::NodeId, restore::KeysAfter};
use haltline_node::{
    Profile,
    backup::{RestoreNode, RestoreOptions, RestoreReport, restore_cluster},
};
use serde_json::{Value, json};

use super::{backup, init};
use crate::{
    args::{
        Distance, Global,
        backup::{KeptIdentity, RestoreArgs},
    },
    exit::Exit,
    failure::Failure,
    output::{
        Render, Screen,
        page::{Page, grouped},
        table::Tone,
        times,
    },
};

/// Makes the directories of the new nodes.
pub(super) fn run(args: &RestoreArgs, global: &Global, screen: Screen) -> Result<Exit, Failure> {
    let options = options(args)?;
    let opened = backup::open(&args.file, &args.key, args.trust_bundle.as_deref(), global)?;
    if let Some(source) = &opened.backup.header.stopped
        && !args.i_understand_what_may_be_lost
    {
        let missing = backup::what_may_be_missing(&opened.backup.header, source);
        missing.iter().for_each(|line| screen.remark(line));
        return Err(Failure::usage(
            "this backup was read from the disk of a stopped node and may lack what others had",
        )
        .hint("if that can't be helped, add --i-understand-what-may-be-lost"));
    }
    let report = restore_cluster(opened.backup, &options).map_err(|error| backup::failure(&error))?;
    screen.print(&Restored { report, by: args.by.to_string() })?;
    Ok(Exit::Done)
}

fn options(args: &RestoreArgs) -> Result<RestoreOptions, Failure> {
    let mut nodes = Vec::with_capacity(args.nodes.len());
    let mut numbers = BTreeSet::new();
    for (place, position) in args.nodes.iter().zip(1..) {
        let number = place.number.unwrap_or(position);
        if !numbers.insert(number) {
            return Err(Failure::usage(format!("two nodes are number {number}"))
                .hint("without a number, nodes are numbered from 1 in their order; `--node 4=HOST` says another one"));
        }
        let id = NodeId(number.into());
        let identity = args.keep.iter().find(|kept| kept.node == id).map(|kept| kept.directory.clone());
        nodes.push(RestoreNode { id, spec: init::node(&place.host, number, args.port)?, identity });
    }
    if let Some(KeptIdentity { node, .. }) =
        args.keep.iter().find(|kept| nodes.iter().all(|node| node.id != kept.node))
    {
        return Err(Failure::usage(format!("--keep names node {node}, and no --node has that number"))
            .hint(format!("add --node {node}=HOST, or let it vouch only, with --endorse-with DIR")));
    }
    Ok(RestoreOptions {
        out: args.dir.clone(),
        root: args.root.clone(),
        nodes,
        endorsers: args.endorse_with.clone(),
        by: args.by.clone(),
        incarnation: args.incarnation,
        profile: match args.profile {
            Distance::Lan => Profile::Lan,
            Distance::Wan => Profile::Wan,
        },
    })
}

struct Restored {
    report: RestoreReport,
    by: String,
}

impl Restored {
    /// How edges take it.
    fn edges(&self) -> (String, Tone) {
        let report = &self.report;
        let enforcers = format!("registered edges and relays ({})", grouped(report.enforcers as u64));
        match report.keys {
            KeysAfter::Kept => {
                (format!("The nodes' keys are the old ones: {enforcers} follow by themselves."), Tone::Plain)
            }
            KeysAfter::Endorsed => (
                format!(
                    "A majority of the old keys vouches for the new ones: {enforcers} follow by themselves."
                ),
                Tone::Plain,
            ),
            KeysAfter::Unproven { kept: 0 } => (
                format!(
                    "All nodes have new keys that no majority of the old ones vouches for: {enforcers} must be removed and \
                     enrolled anew before they permit anything."
                ),
                Tone::Warn,
            ),
            KeysAfter::Unproven { kept } => (
                format!(
                    "Old keys kept: {kept}. No majority of the old ones vouches for the others: edges believe the kept ones \
                     only, and must be enrolled anew before those go."
                ),
                Tone::Warn,
            ),
        }
    }
}

impl Render for Restored {
    fn page(&self, page: &mut Page) {
        let report = &self.report;
        let header = &report.header;
        page.toned(
            format!("Restored cluster {} as incarnation {}.", report.cluster, report.incarnation),
            Tone::Good,
        );
        page.gap();
        page.facts([
            (
                "from",
                Some(format!("log index {}, {}", grouped(header.index), times::wall(header.wall_time()))),
            ),
            ("freeze", Some(format!("{} stops everything, by {}", report.kill, self.by))),
            (
                "trust bundle",
                Some(format!("{} ({})", report.trust_bundle_file.display(), report.trust_bundle)),
            ),
        ]);
        page.gap();
        page.toned(
            "Whatever was done after the backup is lost: kills, revocations, and the removal of people, nodes and edges too. \
             Go through `haltline kills`, `operator list` and `edges` before anything is resumed.",
            Tone::Warn,
        );
        page.toned(
            "Make sure that no node of the cluster as it was runs any more, or ever starts again: wipe its data directory.",
            Tone::Warn,
        );
        let (edges, tone) = self.edges();
        page.toned(edges, tone);
        if report.keys != KeysAfter::Kept {
            page.line(format!(
                "Give people the new trust bundle: {} goes in place of trust.json in their identity directory, before they make \
                 join tokens.",
                report.trust_bundle_file.display()
            ));
        }
        page.line(format!(
            "All credentials ({}) and join tokens are void; agents need new credentials once they may run.",
            grouped(report.credentials as u64)
        ));
        page.gap();
        page.line("Copy each node's directory to its machine, and start the nodes:");
        for node in &report.nodes {
            let kept = if node.kept { "  (keeps its keys)" } else { "" };
            page.line(format!("  haltline node --config {}{kept}", node.config_file.display()));
        }
        let approvers: Vec<_> = report.approvers.iter().map(ToString::to_string).collect();
        let people = if report.bootstrap {
            format!("{}, who is the only person enrolled, lifts the freeze:", approvers.join(", "))
        } else {
            format!("Then {} of {} lift the freeze:", report.approvals_to_resume, approvers.join(", "))
        };
        page.line(people);
        page.line(format!("  haltline resume {} --reason \"…\"", report.kill));
    }

    fn value(&self) -> Value {
        let report = &self.report;
        let keys = match report.keys {
            KeysAfter::Kept => "kept",
            KeysAfter::Endorsed => "endorsed",
            KeysAfter::Unproven { .. } => "unproven",
        };
        let node = |node: &haltline_node::backup::RestoredNodeReport| {
            json!({
                "id": node.id.0,
                "name": node.name,
                "kept_identity": node.kept,
                "config_file": node.config_file.display().to_string(),
            })
        };
        json!({
            "cluster_id": report.cluster.to_string(),
            "incarnation": report.incarnation.0,
            "backup_index": report.header.index,
            "backup_wall_time_ms": report.header.wall_time_ms,
            "index": report.index.0,
            "freeze": report.kill.to_string(),
            "by": self.by,
            "approvals_to_resume": report.approvals_to_resume,
            "approvers": report.approvers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "keys": keys,
            "trust_bundle_file": report.trust_bundle_file.display().to_string(),
            "trust_bundle_hash": report.trust_bundle.to_string(),
            "nodes": report.nodes.iter().map(node).collect::<Vec<_>>(),
        })
    }
}
