//! Every bound of Haltline in one place, each with its reason.
//!
//! Whatever grows (a table, a queue, a message, a string) has its bound here, and a named answer when the bound is
//! reached: a typed error, back-pressure, expiry, or (for kills, which are never refused) a wider kill.

use crate::time::Millis;

// --- Names and texts -------------------------------------------------------------------------------------------------

/// Bytes of one path segment. A DNS label's length: segments become parts of SPIFFE IDs and host names.
pub const PATH_SEGMENT_BYTES_MAX: usize = 63;
/// Segments of a path. Deeper trees than this are files, not organisations; every check walks the path.
pub const PATH_DEPTH_MAX: usize = 10;
/// Bytes of a whole path.
pub const PATH_BYTES_MAX: usize = 255;
/// Bytes of a person's name.
pub const PERSON_NAME_BYTES_MAX: usize = 64;
/// Bytes of an enforcer's name. A DNS label's length: names become parts of SPIFFE IDs and of certificates.
pub const EDGE_NAME_BYTES_MAX: usize = 63;
/// Bytes of a reason: enough for a paragraph, small enough to copy into every receipt.
pub const REASON_BYTES_MAX: usize = 1_024;
/// Bytes of an owner, contact or purpose.
pub const TEXT_BYTES_MAX: usize = 512;
/// Labels on one fleet or agent, and conditions on labels in one selector.
pub const LABELS_MAX: usize = 32;
/// Bytes of a label's key, and of its value.
pub const LABEL_BYTES_MAX: usize = 63;
/// Patterns in one list of a declared intent (tools, resources, models, data classes).
pub const PATTERNS_MAX: usize = 64;
/// Bytes of one pattern.
pub const PATTERN_BYTES_MAX: usize = 128;

// --- Tables of the machine -------------------------------------------------------------------------------------------

/// Fleets: ten thousand teams with a hundred fleets each would not fit one cluster's people either.
pub const FLEETS_MAX: usize = 100_000;
/// Registered agents: ten times the size to serve (design 04, Registry).
pub const AGENTS_MAX: usize = 1_000_000;
/// Registered people.
pub const PEOPLE_MAX: usize = 10_000;
/// Roles one person holds.
pub const ROLES_PER_PERSON_MAX: usize = 64;
/// TLS keys one person holds: a laptop, a phone, a spare.
pub const TLS_KEYS_PER_PERSON_MAX: usize = 8;
/// Nodes of a cluster, learners included.
pub const NODES_MAX: usize = 32;
/// Enforcers that are registered, edges and relays: twice the ten thousand that one cluster serves (design 07).
pub const EDGES_MAX: usize = 20_000;
/// Join tokens that are neither used nor expired: every enforcer of the largest fleet may be set up anew at once.
pub const JOIN_TOKENS_MAX: usize = 20_000;
/// Paths that one enforcer is bound to.
pub const EDGE_PATHS_MAX: usize = 64;
/// Credentials that have not ended (design 04: sizes to serve). At the bound an issue is refused until some end.
pub const CREDENTIALS_MAX: usize = 1_000_000;
/// Fleets of which an old `max_staleness` is remembered, as a lease may rest on it: all of them may change at once.
pub const OLD_STALENESS_MAX: usize = FLEETS_MAX;
/// Old values of one fleet that are remembered: nobody changes it so often within the time of a lease.
pub const OLD_STALENESS_PER_FLEET_MAX: usize = 16;
/// Receipts of kills that are remembered; older ones are with whoever asked for them, and verify offline.
pub const RECEIPTS_MAX: usize = 1_000;
/// Kills in force before a further kill is widened: to its whole fleet, at once, until people lift it (never refused).
pub const KILLS_MAX: usize = 10_000;
/// Lifted kills that are remembered for `kills --all`; older ones live on in the audit.
pub const LIFTED_KILLS_MAX: usize = 1_000;
/// Revocations in force (design 04: sizes to serve), with room to spare; the answer at the bound is "kill the fleet".
pub const REVOCATIONS_MAX: usize = 2_000_000;
/// Commands that wait for a second person.
pub const PENDING_APPROVALS_MAX: usize = 1_000;
/// Commands of one person that wait for a second person.
pub const PENDING_APPROVALS_PER_PERSON_MAX: usize = 100;
/// Remembered command ids. At the bound new commands are refused until older ones reach their deadline; kills are not.
pub const REQUESTS_MAX: usize = 1_048_576;
/// Remembered command ids of one person: half the table, so that nobody alone can fill it.
pub const REQUESTS_PER_PERSON_MAX: usize = REQUESTS_MAX / 2;
/// Remembered command ids of kills beyond [`REQUESTS_MAX`]; past these a repeated kill finds its twin in force.
pub const KILL_REQUESTS_RESERVE: usize = 65_536;

// --- Durations of the machine ----------------------------------------------------------------------------------------

/// How far ahead the deadline of an unsigned command may lie: it stays in the table of command ids until then.
pub const REQUEST_LIFETIME_MAX: Millis = Millis(5 * 60 * 1_000);
/// How far ahead the deadline of a signed command may lie: the time people have to approve it.
pub const APPROVAL_LIFETIME_MAX: Millis = Millis(24 * 60 * 60 * 1_000);
/// Smallest `max_staleness` (design 02, Terms).
pub const MAX_STALENESS_FLOOR: Millis = Millis(200);
/// Largest `max_staleness` (design 02, Terms).
pub const MAX_STALENESS_CEILING: Millis = Millis(5 * 60 * 1_000);
/// `max_staleness` where no fleet on the path sets one.
pub const MAX_STALENESS_DEFAULT: Millis = Millis(2_000);
/// How long after its end in cluster time a credential may still be taken for valid somewhere: the longest lease, and
/// as much again for clocks that are slow and for cluster time that is known late.
pub const LEASE_MAX: Millis = Millis(2 * MAX_STALENESS_CEILING.0);
/// How much longer an old `max_staleness` is remembered than a lease can rest on it.
pub const OLD_STALENESS_MARGIN: Millis = Millis(1_000);
/// A restored cluster numbers kills and approvals from the next multiple of this, so that no number that was given out after
/// the backup comes to mean something else. Nobody places a million kills between two backups.
pub const NUMBERS_SKIPPED_BY_RESTORE: u64 = 1_000_000;
/// Longest credential lifetime that a fleet may allow.
pub const CREDENTIAL_TTL_CEILING: Millis = Millis(24 * 60 * 60 * 1_000);
/// Credential lifetime where no fleet on the path sets one.
pub const CREDENTIAL_TTL_DEFAULT: Millis = Millis(5 * 60 * 1_000);
/// Deepest delegation that a fleet may allow: an edge looks every ancestor up (design 04: at most 8).
pub const DELEGATION_DEPTH_CEILING: u32 = 8;
/// Delegation depth where no fleet on the path sets one.
pub const DELEGATION_DEPTH_DEFAULT: u32 = 4;
/// Live instances under one fleet, at most and by default (design 04: sizes to serve).
pub const INSTANCES_CEILING: u32 = 1_000_000;
/// How far fleets and agents are counted to say why a fleet can't be deleted: it happens while an entry is applied.
pub const NOT_EMPTY_COUNTED_MAX: u64 = 1_000;
/// Longest life of a join token: the time to carry it to another machine and start an enforcer there.
pub const JOIN_TOKEN_TTL_MAX: Millis = Millis(60 * 60 * 1_000);
/// Longest life of a kill that expires by itself, and longest drain.
pub const KILL_DURATION_MAX: Millis = Millis(366 * 24 * 60 * 60 * 1_000);
/// When an expired terminating kill is looked at again that found no room for its revocation.
pub const KILL_EXPIRY_RETRY: Millis = Millis(60_000);
/// People that a policy may ask for before a kill is resumed or anything widens.
pub const APPROVALS_REQUIRED_MAX: u32 = 5;

// --- Leases, proofs and enforcement (design 02) ----------------------------------------------------------------------

/// ρ, by how much any clock's rate may be off, in parts per million: ten times what crystal oscillators are allowed.
pub const MAX_CLOCK_DRIFT_PPM: u32 = 1_000;
/// Largest ρ that may be assumed: a tenth. A clock that is further off is broken, and a bound with it means little.
pub const MAX_CLOCK_DRIFT_PPM_CEILING: u32 = 100_000;
/// Probes of one enforcer that wait for an answer: eight staleness periods' worth. Past it the oldest is given up.
pub const PROBES_OUTSTANDING_MAX: usize = 32;
/// Nonces under one signature: all probes that wait on one node. Paths stay at 14 hashes.
pub const MERKLE_LEAVES_MAX: usize = 16_384;
/// Hubs between an enforcer and a node: four levels of a thousand each are more edges than there will be.
pub const PROOF_LAYERS_MAX: usize = 5;
/// Chain positions that an enforcer remembers, to compare a statement's head at its own event number. A statement that
/// lags further behind is refused, and the next one is a round trip away.
pub const CHAIN_HISTORY_MAX: usize = 4_096;
/// Open streams that one node's tracker follows: every connection of its port.
pub const TRACKED_STREAMS_MAX: usize = TLS_CONNECTIONS_MAX;
/// Enforcers without an open stream whose lease may still live; past it no stream is opened until one has ended.
pub const TRACKED_DEPARTED_MAX: usize = 65_536;
/// Grants of one stream that are told apart; older ones are merged, which only makes a wait longer.
pub const TRACKED_GRANTS_MAX: usize = 6;
/// Kills whose enforcement one node follows at once. Each costs memory for every stream that lags; a further kill is
/// waited out by the clock.
pub const TRACKED_KILLS_MAX: usize = 256;
/// Names of enforcers in one list of a receipt, which stays in the log; more are counted.
pub const RECEIPT_NAMES_MAX: usize = 64;
/// Former members of a cluster whose leases may still live.
pub const FORMER_MEMBERS_MAX: usize = 4 * NODES_MAX;

// --- The log ---------------------------------------------------------------------------------------------------------

/// Bytes of one encoded command. The largest honest one (a fleet with full lists) stays under half of this.
pub const COMMAND_BYTES_MAX: usize = 64 * 1_024;
/// Commands in one entry of the log.
pub const BATCH_COMMANDS_MAX: usize = 2_048;
/// Bytes of one entry of the log: bounded so that one follower's append never waits long behind it.
pub const BATCH_BYTES_MAX: usize = 1_024 * 1_024;

// --- Keys, certificates and TLS (crate pki) --------------------------------------------------------------------------

/// Bytes of one file of an identity: a trust bundle with all nodes and several roots fits many times.
pub const PKI_FILE_BYTES_MAX: usize = 256 * 1_024;
/// Certificates in one chain: leaf and intermediate, with room for a root that somebody sends along.
pub const CERTIFICATE_CHAIN_MAX: usize = 4;
/// DNS names and IP addresses in one node's certificate.
pub const CERTIFICATE_HOSTS_MAX: usize = 32;
/// Root certificates in one trust bundle: the old and the new one during a change, and a spare.
pub const TRUST_ROOTS_MAX: usize = 4;
/// Endpoints that a person's identity lists: every node of the largest cluster.
pub const ENDPOINTS_MAX: usize = NODES_MAX;
/// Open TLS connections of one port; the next one is closed. A node serves ten thousand edges (design 02).
pub const TLS_CONNECTIONS_MAX: usize = 12_000;
/// TLS handshakes in progress on one port; the next connection is closed. Each costs about a millisecond of one core.
pub const TLS_HANDSHAKES_MAX: usize = 256;
/// How long a handshake may take: several round trips around the world.
pub const TLS_HANDSHAKE_TIMEOUT: Millis = Millis(5_000);
/// How long a refused peer is given to read why, before its socket is closed.
pub const TLS_REFUSAL_LINGER: Millis = Millis(1_000);
/// Refused connections that a port remembers for the operator.
pub const TLS_REFUSALS_REMEMBERED: usize = 64;
/// Refused connections that a port logs in one second; the rest are counted in the next line.
pub const TLS_REFUSALS_LOGGED_PER_SECOND: u32 = 10;
/// How often open connections are checked against the registry and their certificates' ends, beside every change.
pub const TLS_RECHECK_INTERVAL: Millis = Millis(10_000);
/// Established connections that wait for the server to take them up.
pub const TLS_ACCEPTED_QUEUE_MAX: usize = 64;
/// How long a client waits for a node to answer, TCP and TLS together.
pub const CONNECT_TIMEOUT: Millis = Millis(5_000);
/// How long a client waits for a server's first word, by which it knows that its certificate was accepted. A server that
/// speaks only when spoken to is believed after this.
pub const CONNECT_CONFIRM_TIMEOUT: Millis = Millis(1_000);
/// After how much silence a TCP connection is probed.
pub const TCP_KEEPALIVE_IDLE: Millis = Millis(20_000);
/// How often a silent TCP connection is probed then.
pub const TCP_KEEPALIVE_INTERVAL: Millis = Millis(5_000);
/// How many TCP probes may stay unanswered.
pub const TCP_KEEPALIVE_PROBES: u32 = 3;
/// How often a client pings over HTTP/2, also when idle: a dead node is noticed within this and the next.
pub const HTTP2_PING_INTERVAL: Millis = Millis(10_000);
/// How long an HTTP/2 ping may stay unanswered.
pub const HTTP2_PING_TIMEOUT: Millis = Millis(5_000);

// --- Durable log and snapshots (crate storage) -----------------------------------------------------------------------

/// Bytes of one record of the Raft log: four of the largest batches, so that an entry's envelope never matters.
pub const LOG_RECORD_BYTES_MAX: usize = 4 * BATCH_BYTES_MAX;
/// Bytes of a vote, or of the log id of a purge or commit: a few numbers, and three of them fit in a segment's header.
pub const LOG_MARK_BYTES_MAX: usize = 512;
/// Bytes of one segment file: small enough to zero ahead and to read back in one piece, large enough that the three
/// syncs of opening one vanish among the thousands that fill it.
pub const LOG_SEGMENT_BYTES: u32 = 16 * 1_024 * 1_024;
/// Smallest segment: its header and one small record. Tests roll often with it.
pub const LOG_SEGMENT_BYTES_MIN: u32 = 8 * 1_024;
/// Largest segment: offsets are 32 bits wide and recovery reads one segment at a time into memory.
pub const LOG_SEGMENT_BYTES_MAX: u32 = 1_024 * 1_024 * 1_024;
/// Segment files of one log, 64 GiB: far more than lies between two snapshots. At the bound the log stops.
pub const LOG_SEGMENTS_MAX: usize = 4_096;
/// Records held: each costs 16 to 24 bytes of memory for its place. At the bound appends are refused until a purge.
pub const LOG_RECORDS_MAX: usize = 4 * 1_024 * 1_024;
/// Bytes of recent records kept in memory, which is what followers that keep up are sent from.
pub const LOG_CACHE_BYTES: usize = 32 * 1_024 * 1_024;
/// Bytes on their way to the disk before an append waits for room.
pub const LOG_PENDING_BYTES_MAX: usize = 64 * 1_024 * 1_024;
/// Bytes that one sync makes durable at most, so that the first append in it doesn't wait long for the last.
pub const LOG_SYNC_BYTES_MAX: usize = 8 * 1_024 * 1_024;
/// Bytes of neighbouring records that are read from disk at once.
pub const LOG_READ_BYTES: usize = 1_024 * 1_024;
/// Emptied segment files that are kept for reuse, because zeroing a new one costs a segment's worth of writes.
pub const LOG_SPARE_SEGMENTS_MAX: usize = 2;
/// Segment files that a log keeps in reserve: they are its own already when the disk is full, and carry votes, kills and
/// what was begun until a snapshot lets the log purge and use its own files again.
pub const LOG_RESERVE_SEGMENTS: usize = 3;
/// Free bytes on the disk below which a node takes no new commands: as much as all its reserves, twice.
pub const LOG_LOW_WATER_BYTES: u64 = 128 * 1_024 * 1_024;
/// How often a log looks how much room its disk has.
pub const LOG_ROOM_INTERVAL: Millis = Millis(500);
/// How often a log that waits for room tries again, and how often it looks for room while it is short of it.
pub const LOG_ROOM_RETRY: Millis = Millis(200);
/// Syncs of a log whose durations are remembered, to tell how long one takes at the moment.
pub const LOG_SYNCS_REMEMBERED: usize = 64;
/// How long the duration of a sync counts for that: an idle log syncs each second.
pub const LOG_SYNC_MEMORY: Millis = Millis(10_000);
/// Writes of one measurement of a disk's sync latency.
pub const SYNC_PROBE_WRITES_MAX: usize = 10_000;
/// File descriptors of a process that its storage holds for the moment when there are no others: to open a file, a
/// directory to sync it, and as many again for whoever is quicker.
pub const STORAGE_DESCRIPTORS_RESERVED: usize = 8;
/// Bytes that are kept on disk for a snapshot when nothing else is free: one lets the log purge.
pub const SNAPSHOT_RESERVE_BYTES: u64 = 16 * 1_024 * 1_024;
/// Bytes of a snapshot file: the state lives in memory, so this is beyond what a node can load.
pub const SNAPSHOT_BYTES_MAX: u64 = 64 * 1_024 * 1_024 * 1_024;
/// Bytes of one chunk of a snapshot file, and of one read from it.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// Bytes of a snapshot's metadata: log id and membership with the addresses of all nodes.
pub const SNAPSHOT_META_BYTES_MAX: usize = 64 * 1_024;
/// Snapshots written at once: one built here and one received from a leader, and one of either to be given up.
pub const SNAPSHOT_WRITERS_MAX: usize = 3;
/// Bytes of the `IDENTITY` file.
pub const IDENTITY_FILE_BYTES_MAX: usize = 4 * 1_024;

// --- Consensus (crate consensus) -------------------------------------------------------------------------------------

/// Commands that wait in one lane of one node. Ten full batches; beyond that waiting longer helps nobody.
pub const PROPOSALS_QUEUED_MAX: usize = 10 * BATCH_COMMANDS_MAX;
/// Full batches of the normal lane that may be on their way at once. Only full ones overlap: a batch that isn't full
/// waits for the one before, which is what makes batches.
pub const BATCHES_IN_FLIGHT_MAX: usize = 4;
/// Forwarded batches that one node has under way to the leader.
pub const FORWARDS_IN_FLIGHT_MAX: usize = 4;
/// Entries of kills that a leader has in flight; past that kills wait in their own lane, and go several to an entry.
pub const KILL_ENTRIES_IN_FLIGHT_MAX: usize = 64;
/// How long a caller waits for a command's outcome if it doesn't say: several elections.
pub const PROPOSE_TIMEOUT: Millis = Millis(10_000);
/// How often an idle leader commits an empty batch, so that cluster time is known everywhere to about as much.
pub const TICK_INTERVAL: Millis = Millis(1_000);
/// Readers that wait for a barrier on one node: every edge of ten thousand, and people.
pub const BARRIER_WAITERS_MAX: usize = 16_384;
/// How long a read barrier may take before its readers are told that there was none.
pub const BARRIER_TIMEOUT: Millis = Millis(2_000);
/// Applied entries kept for subscribers. At 1,000 entries a second a reader may be a minute behind.
pub const FEED_ENTRIES_MAX: usize = 65_536;
/// Events and changes in all of them.
pub const FEED_EVENTS_MAX: usize = 65_536;
/// Applied entries whose answers are held back until the state that contains them is published.
pub const APPLY_ENTRIES_MAX: usize = 64;
/// Bytes of entries read from the log for one message to a peer. One full batch always goes.
pub const RAFT_READ_BYTES_MAX: usize = 1_024 * 1_024;
/// Entries in one message to a peer.
pub const RAFT_APPEND_ENTRIES_MAX: u64 = 512;
/// Messages of log entries on their way to one peer and not yet answered.
pub const RAFT_APPENDS_IN_FLIGHT_MAX: usize = 16;
/// Bytes of one message between nodes: a full batch, or the answers to one, which repeat parts of its commands and of
/// those that wait for approval.
pub const RAFT_MESSAGE_BYTES_MAX: usize = 8 * BATCH_BYTES_MAX;
/// Calls that one peer may have open at once: an append stream, heartbeats, votes, barriers and forwarded batches.
pub const RAFT_STREAMS_MAX: u32 = 256;
/// How often a node calls every other one, so that the connections that a failover takes are open when it comes.
pub const WARM_INTERVAL: Millis = Millis(1_000);
/// Bytes of one chunk of a snapshot on its way to another node.
pub const SNAPSHOT_PART_BYTES_MAX: usize = 256 * 1_024;
/// How long the other node may take for one chunk, and for taking up the whole snapshot at the end.
pub const SNAPSHOT_PART_TIMEOUT: Millis = Millis(30_000);
/// How long a graceful stop tries to hand leadership over.
pub const LEADER_TRANSFER_TIMEOUT: Millis = Millis(3_000);
/// How long a stopping node waits for consensus to end: one whose log waits for room can't end by itself.
pub const RAFT_STOP_TIMEOUT: Millis = Millis(5_000);
/// How often a leader looks whether it is fit to lead: as often as an overfull disk may let a few more batches in.
pub const FITNESS_INTERVAL: Millis = Millis(250);
/// How old another node's word on how it fares may be: three rounds of asking, each held up by a node that is gone.
pub const CONDITION_LIFETIME: Millis = Millis(10_000);
/// How long a leader's disk must have been slow before it hands over: not for one pause of a disk.
pub const SLOW_DISK_PATIENCE: Millis = Millis(3_000);
/// How much quicker another voter's disk must be, so that leadership goes where it is really better off.
pub const SLOW_DISK_FACTOR: u32 = 4;
/// How long a node leads, or tries to, before it hands over for its disk's slowness again: leadership must not wander.
pub const SLOW_DISK_REST: Millis = Millis(60_000);
/// How often such a node takes a snapshot in any case, when its log's reserve isn't whole.
pub const TIGHT_SNAPSHOT_INTERVAL: Millis = Millis(10_000);
/// Entries kept behind a snapshot however large they are: a follower that is a moment behind needs no snapshot.
pub const LOG_KEEP_ENTRIES_MIN: u64 = 64;
/// The same on a full disk, where every segment counts: half of one, if the entries are the largest.
pub const LOG_KEEP_ENTRIES_TIGHT: u64 = 8;
/// How often a snapshot is tried again that found no room on the disk.
pub const SNAPSHOT_ROOM_RETRY: Millis = Millis(1_000);
/// Bytes of log between two points of the table that says how much lies where.
pub const LOG_SIZE_STEP_BYTES: u64 = 1_024 * 1_024;
/// Points of that table: 16 GiB of log. Beyond that the oldest are forgotten, and compaction goes by entries alone.
pub const LOG_SIZE_POINTS_MAX: usize = 16_384;

// --- The API (crates wire and node) ----------------------------------------------------------------------------------

/// Bytes of one request to the API. A command of [`COMMAND_BYTES_MAX`] fits with its framing and a certificate request.
pub const API_REQUEST_BYTES_MAX: usize = 2 * COMMAND_BYTES_MAX;
/// Bytes of one response of the API: a page of [`PAGE_BYTES_MAX`] and its last element.
pub const API_RESPONSE_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// Calls at once on one connection by default: a client needs a handful, an automation a few dozen.
pub const API_STREAMS_PER_CONNECTION: u32 = 128;
/// Calls at once on one connection, at most configurable.
pub const API_STREAMS_PER_CONNECTION_MAX: u32 = 4_096;
/// Commands of one pipelined stream that wait for their outcome, by default: a full batch, so that ten busy streams don't
/// fill a node's queue. The stream isn't read while it is full.
pub const API_IN_FLIGHT_PER_STREAM: usize = BATCH_COMMANDS_MAX;
/// Commands of one pipelined stream that wait for their outcome, at most configurable.
pub const API_IN_FLIGHT_PER_STREAM_MAX: usize = 65_536;
/// Kills of one pipelined stream that wait for their outcome beside its other commands, which never hold a kill up.
pub const API_KILLS_IN_FLIGHT_PER_STREAM: usize = 256;
/// Commands of one pipelined stream that are read ahead while it is full, so that kills among them pass; then it isn't read.
pub const API_LOOK_AHEAD_PER_STREAM: usize = 1_024;
/// Bytes of one pipelined stream's commands that are in flight or read ahead; past it the stream isn't read. A hundred
/// thousand small commands a second at 40 ms fit.
pub const API_BYTES_PER_STREAM: usize = 4 * 1_024 * 1_024;
/// Bytes of HTTP headers of one request: gRPC metadata that honest clients send is a few hundred.
pub const API_HEADER_BYTES_MAX: u32 = 16 * 1_024;
/// Elements of one page of a list.
pub const PAGE_SIZE_MAX: u32 = 1_000;
/// Elements of one page of a list when the caller doesn't say.
pub const PAGE_SIZE_DEFAULT: u32 = 100;
/// Bytes of elements after which a page ends early.
pub const PAGE_BYTES_MAX: usize = 2 * 1_024 * 1_024;
/// Bytes of a page token: the longest key of a table, in hexadecimal, with room.
pub const PAGE_TOKEN_BYTES_MAX: usize = 1_024;
/// Elements that one call looks at before its page ends early, so that a rare filter can't hold a core.
pub const PAGE_SCAN_MAX: usize = 20_000;
/// Names in each sample of a blast radius.
pub const BLAST_SAMPLE_MAX: usize = 20;
/// Event watches of one node at once, by default.
pub const EVENT_WATCHERS_MAX: usize = 256;
/// Event watches of one node at once, at most configurable.
pub const EVENT_WATCHERS_CEILING: usize = 10_000;
/// Open connections of the plain HTTP listener: a few scrapers and probes.
pub const HTTP_CONNECTIONS_MAX: usize = 64;
/// How long a client of the plain HTTP listener may take for the headers of a request.
pub const HTTP_HEADER_TIMEOUT: Millis = Millis(5_000);
/// How often the node looks whether it is ready, beside every change that it hears of.
pub const READINESS_INTERVAL: Millis = Millis(200);
/// How often an otherwise idle node asks whether a quorum still confirms the leader.
pub const QUORUM_CHECK_INTERVAL: Millis = Millis(1_000);
/// How often a running node looks whether its certificate is due: a third of ninety days is left when it is.
pub const CERTIFICATE_CHECK_INTERVAL: Millis = Millis(60 * 60 * 1_000);
/// Bytes of a receipt's file: with every list at its bound it has a twentieth of that.
pub const RECEIPT_FILE_BYTES_MAX: u64 = 1_024 * 1_024;
/// Bytes of the founding file: nodes and one person.
pub const FOUNDING_FILE_BYTES_MAX: u64 = 1_024 * 1_024;

// --- An enforcer's link to its hubs (crate edge, client) -------------------------------------------------------------

/// Longest wait between two rounds over all hubs, at most configurable: past five minutes nobody's lease lives.
pub const HUB_BACKOFF_CEILING: Millis = MAX_STALENESS_CEILING;
/// Longest patience for one connection to a hub, at most configurable.
pub const HUB_CONNECT_TIMEOUT_CEILING: Millis = Millis(60_000);
/// Hubs that an enforcer knows: every node of the largest cluster, and as many relays.
pub const HUBS_MAX: usize = 2 * NODES_MAX;
/// Bytes of one message of a sync stream: a frame of one log entry's events, of which the largest has a batch of them.
pub const SYNC_MESSAGE_BYTES_MAX: usize = 8 * BATCH_BYTES_MAX;
/// Messages to a hub that wait to be sent. Probes are bounded by themselves; acknowledgements coalesce.
pub const SYNC_OUTGOING_MAX: usize = 16;
/// How long a freshly opened stream may take to be welcomed.
pub const SYNC_WELCOME_TIMEOUT: Millis = Millis(5_000);
/// Shortest time between two probes of one enforcer, whatever the staleness of its fleets.
pub const EDGE_PROBE_INTERVAL_MIN: Millis = Millis(25);
/// Longest time between two probes: position and health of an enforcer stay known however lazy its fleets are.
pub const EDGE_PROBE_INTERVAL_MAX: Millis = Millis(10_000);
/// How long a hub may take to answer before the next one is dialled beside it: a handshake around the world.
pub const HUB_DIAL_STAGGER: Millis = Millis(300);
/// Shortest time after which unanswered probes make an enforcer turn to another hub: a leader's election fits often.
pub const HUB_SILENCE_MIN: Millis = Millis(400);
/// How often that time doubles while no hub answers, as when there is no quorum: up to two leases. More would be waited out
/// at a hub that hangs when the next one is well again.
pub const HUB_SILENCE_DOUBLINGS_MAX: u32 = 2;
/// Least bound on the wait between two rounds over all hubs, which otherwise is a lease's length: ten thousand enforcers
/// at a hub that refuses them are twenty thousand handshakes a second then.
pub const HUB_BACKOFF_CAP_MIN: Millis = Millis(1_000);
/// How long a hub may take for one chunk of a view.
pub const EDGE_VIEW_CHUNK_TIMEOUT: Millis = Millis(30_000);
/// Events after which the cached snapshot is fetched again, so that a restart catches up from frames.
pub const SNAPSHOT_CACHE_EVENTS: u64 = 10_000;
/// Shortest time between two fetches of a snapshot for the cache alone.
pub const SNAPSHOT_CACHE_INTERVAL: Millis = Millis(10 * 60 * 1_000);
/// How often the high-water mark is written while no event comes: it moves with every entry of the log.
pub const MARK_INTERVAL: Millis = Millis(60_000);
/// How often the high-water mark is written, at most: a disk that syncs at every Fresh would wear for nothing.
pub const MARK_WRITE_INTERVAL: Millis = Millis(1_000);
/// Bytes of an enforcer's record of a position, or of the keys it believes: all changes of the largest bundles fit.
pub const PERSISTED_RECORD_BYTES_MAX: u64 = 1_024 * 1_024;
/// Changes of the trust bundle that a view carries, and that an enforcer keeps as proof of the keys it believes; who needs
/// more to find its way must be enrolled anew.
pub const BUNDLE_CHANGES_MAX: usize = 64;
/// Replaced keys of nodes by which access tokens are still checked: as many as [`TOKEN_KEYS_MAX`] leaves beside the keys in
/// force. Past it the one replaced first goes.
pub const RETIRED_KEYS_MAX: usize = TOKEN_KEYS_MAX - NODES_MAX;
/// How long one call of the enrolment may take.
pub const ENROL_CALL_TIMEOUT: Millis = Millis(15_000);
/// How long an enforcer that stops waits for its hub to take its leave.
pub const SYNC_CLOSE_TIMEOUT: Millis = Millis(1_000);

// --- Access tokens, join tokens and the public port (crate pki) ------------------------------------------------------

/// Bytes of a whole access token: with every claim at its bound it still fits into the headers of one request.
pub const TOKEN_BYTES_MAX: usize = 12 * 1_024;
/// Bytes of an access token's header as text: ours has 134.
pub const TOKEN_HEADER_BYTES_MAX: usize = 512;
/// Grants in the lineage of an access token: its own and the ancestors that an edge looks up.
pub const TOKEN_LINEAGE_MAX: usize = DELEGATION_DEPTH_CEILING as usize + 1;
/// Bytes of the tools that an access token lists: more are refused when the credential is asked for.
pub const TOKEN_SCOPE_BYTES_MAX: usize = 2 * 1_024;
/// Objects and lists within each other in a token: claims, the private claim, a list in it, and one to spare.
pub const TOKEN_JSON_DEPTH_MAX: usize = 4;
/// Members of one object in a token: looking for duplicates takes the square of it.
pub const TOKEN_JSON_MEMBERS_MAX: usize = 48;
/// Keys by which access tokens are checked: each node's, and the one that it replaced.
pub const TOKEN_KEYS_MAX: usize = 2 * NODES_MAX;
/// Public endpoints in one join token: enough that some node answers, few enough for a line of text.
pub const JOIN_TOKEN_ENDPOINTS_MAX: usize = 8;
/// Bytes of a join token as text, with the longest host names.
pub const JOIN_TOKEN_TEXT_BYTES_MAX: usize = 4 * 1_024;
/// Bytes of a request for an enforcer's certificate: ours has about 200.
pub const EDGE_REQUEST_BYTES_MAX: usize = 4 * 1_024;
/// Open connections of the public port: joining takes seconds, so few are open at once.
pub const PUBLIC_CONNECTIONS_MAX: usize = 1_024;
/// Handshakes in progress on the public port: strangers must leave the other ports their share of the cores.
pub const PUBLIC_HANDSHAKES_MAX: usize = 64;
/// How long a connection to the public port may live: nothing there takes minutes.
pub const PUBLIC_CONNECTION_LIFETIME: Millis = Millis(5 * 60 * 1_000);
/// Connections that one source may open to the public port at once: a rack behind one address that joins together.
pub const PUBLIC_BURST_PER_SOURCE: u32 = 32;
/// After how long a source may open one more. A source is an IPv4 address or an IPv6 network of 64 bits.
pub const PUBLIC_REFILL_PER_SOURCE: Millis = Millis(500);
/// Connections to the public port that one source may hold open.
pub const PUBLIC_OPEN_PER_SOURCE: u32 = 64;
/// Sources that the public port tells apart; those beyond share one allowance, so a flood of addresses gains nothing.
pub const PUBLIC_SOURCES_MAX: usize = 8_192;

// --- Deciding (crate edge, enforce) ----------------------------------------------------------------------------------

/// Events that an enforcer has heard of and no verified statement covers yet: half a minute at two thousand a second,
/// and a probe covers them all. Past that a frame is refused until the next Fresh.
pub const EVENTS_UNVERIFIED_MAX: usize = 65_536;
/// Versions of one fleet's policy, one agent's labels or the enforcer's own record that were heard and aren't verified: all
/// of them have to allow what is done. Past that what they govern is denied until the next Fresh.
pub const VERSIONS_UNVERIFIED_MAX: usize = 64;
/// Changes of the view that are remembered by what they touch, four bytes each, so that sessions which they don't touch
/// needn't look everything up anew: at a thousand a second, sessions that are asked once a second. Those that aren't do.
pub const CHANGES_REMEMBERED: usize = 1_024;
/// Sessions that one enforcer holds: agents of ten busy machines. Past that the longest unused token is forgotten, and a
/// new one is refused if all are in use.
pub const SESSIONS_MAX: usize = 262_144;
/// Verified tokens that one enforcer remembers, so that a token that comes again needs no signature checked.
pub const TOKENS_REMEMBERED_MAX: usize = 131_072;
/// Names of one kind (tools, models, resources, data classes) whose judgement one session remembers. Those that come
/// later are judged anew each time.
pub const NAMES_REMEMBERED_MAX: usize = 32;
/// Bytes of one name in an action: a long URL. Matching costs pattern times name.
pub const ACTION_NAME_BYTES_MAX: usize = 2 * 1_024;
/// Changes whose sessions wait to be woken; past that all sessions are looked at.
pub const HALT_HINTS_MAX: usize = 1_024;
/// Sessions that are looked at before other work has its turn: a fifth of a millisecond.
pub const HALT_CHUNK: usize = 128;
/// How often a decision starts over because the view changed meanwhile, before it denies.
pub const DECISION_ATTEMPTS_MAX: u32 = 1_024;

// --- The sidecar (crate edge) ----------------------------------------------------------------------------------------

/// Bytes of a request's path that is taken apart into names: what proxies accept as a whole line.
pub const SIDECAR_PATH_BYTES_MAX: usize = 8 * 1_024;
/// Segments of a request's path.
pub const SIDECAR_PATH_SEGMENTS_MAX: usize = 64;
/// Rules that say which action a request stands for: they are tried in order for every request.
pub const SIDECAR_RULES_MAX: usize = 256;
/// Bytes of one rule.
pub const SIDECAR_RULE_BYTES_MAX: usize = 1_024;
/// Texts and sources that one part of an action is made of.
pub const SIDECAR_TEMPLATE_PARTS_MAX: usize = 16;
/// Bytes of one message of Envoy's: its largest headers with room, bodies aren't sent.
pub const SIDECAR_CHECK_BYTES_MAX: usize = 256 * 1_024;
/// Bytes of HTTP headers of one request to the sidecar: an access token with room.
pub const SIDECAR_HEADER_BYTES_MAX: usize = 32 * 1_024;
/// Bytes of the body of one request to the sidecar: a batch of [`SIDECAR_BATCH_MAX`] and a token.
pub const SIDECAR_BODY_BYTES_MAX: usize = 256 * 1_024;
/// Actions in one request for decisions.
pub const SIDECAR_BATCH_MAX: usize = 256;
/// Audiences, beside the cluster's own, whose tokens a sidecar takes.
pub const SIDECAR_AUDIENCES_MAX: usize = 16;
/// How long a request to the sidecar may take to arrive whole.
pub const SIDECAR_REQUEST_TIMEOUT: Millis = Millis(5_000);
/// Open connections of one listener of the sidecar; the next one waits in the system's queue.
pub const SIDECAR_CONNECTIONS_MAX: usize = 4_096;
/// Streams of HTTP that the sidecar watches at once, so that it can cut them; past that Envoy is refused and denies.
pub const SIDECAR_WATCHED_MAX: usize = 65_536;
/// Streams at once on one connection of Envoy's: all that are watched may come over one.
pub const SIDECAR_STREAMS_PER_CONNECTION_MAX: u32 = 65_536;
/// Callers that wait to hear that their session was halted.
pub const SIDECAR_HALT_WATCHERS_MAX: usize = 16_384;
/// After how much silence such a caller is sent a comment, by which it knows that somebody is there.
pub const SIDECAR_HALT_KEEPALIVE: Millis = Millis(5_000);
/// How often the sidecar looks whether its lease is live, for health checks and the log.
pub const SIDECAR_READINESS_INTERVAL: Millis = Millis(100);
/// How often a stream in flight is decided about again, at least: a suspended machine's timers stand still meanwhile, and a
/// kill of one tool halts no session.
pub const SIDECAR_RECHECK_INTERVAL: Millis = Millis(250);
/// Longest time that a stopping sidecar may be told to wait for what is in flight.
pub const SIDECAR_DRAIN_CEILING: Millis = Millis(10 * 60 * 1_000);
/// How long a sidecar that is configured to fail open waits to read its own record, before it refuses to start.
pub const SIDECAR_RECORD_TIMEOUT: Millis = Millis(30_000);

// --- The edge hub (crate hub) ----------------------------------------------------------------------------------------

/// Sync streams of one hub, shared connections included: as many as its tracker follows.
pub const HUB_STREAMS_MAX: usize = TRACKED_STREAMS_MAX;
/// Sync streams of one enforcer's name: its one, those that a broken network left behind, and load tests that share.
pub const HUB_STREAMS_PER_EDGE_MAX: usize = 512;
/// Events that a hub keeps for enforcers that come back or are slow: minutes at a thousand a second.
pub const HUB_RING_EVENTS_MAX: usize = 131_072;
/// Bytes of those events.
pub const HUB_RING_BYTES_MAX: usize = 32 * 1_024 * 1_024;
/// Bytes of events in one frame before the next begins; one event always goes. Two of these may wait in each slow stream.
pub const HUB_FRAME_BYTES_MAX: usize = 32 * 1_024;
/// Encoded runs of frames that are shared among streams: enforcers stand at few positions, mostly the last fan-out's.
pub const HUB_ENCODED_RUNS_MAX: usize = 32;
/// Entries that a hub takes from above before it shows them to its streams.
pub const HUB_FEED_BATCH_MAX: usize = 1_024;
/// Bytes of one message from an enforcer: Hello is the largest, with a version and a region.
pub const EDGE_MESSAGE_BYTES_MAX: usize = 4 * 1_024;
/// Bytes of the version and of the region that an enforcer tells, and of a hub's address.
pub const EDGE_TEXT_BYTES_MAX: usize = 128;
/// Messages of one enforcer that are handled before other streams have their turn.
pub const HUB_MESSAGES_PER_TURN: usize = 32;
/// Messages that one enforcer may send on a stream in one second, on average: an acknowledgement for each of a thousand
/// kills, and probes.
pub const EDGE_MESSAGES_PER_SECOND: u64 = 2_000;
/// Messages that one enforcer may send beyond that, at once.
pub const EDGE_MESSAGES_BURST: u64 = 2_000;
/// How long a hub that lags behind an enforcer lets it wait before it says so: less than [`HUB_SILENCE_MIN`], after which
/// the enforcer would have gone without knowing why.
pub const HUB_LAG_TIMEOUT: Millis = Millis(300);
/// How long a stream may wait with its Hello.
pub const HUB_HELLO_TIMEOUT: Millis = Millis(10_000);
/// Time between two barriers for probes, so that under load a hundred probes or more share one signature. A lease loses
/// as much at most; the first probe after a pause waits for nothing. Of several probes of one stream that wait for the
/// same barrier the newest is answered, so this is also how often a stream is answered at most.
pub const HUB_BARRIER_INTERVAL: Millis = Millis(10);
/// How long the statement of a barrier may wait for the events that it rests on.
pub const HUB_CATCH_UP_TIMEOUT: Millis = Millis(2_000);
/// Frames of one stream that are remembered until they are acknowledged: beyond that acknowledgements count for less at
/// first, which is safe.
pub const HUB_UNACKED_FRAMES_MAX: usize = 32;
/// Streams that are woken before other work has its turn: a millisecond of writing.
pub const HUB_WAKE_CHUNK: usize = 128;
/// Nanoseconds between two fan-outs of kills, per stream: a pass costs about 10 µs of a core for each stream, so several
/// kills in a few milliseconds share one.
pub const HUB_URGENT_PACE_NANOS: u64 = 2_000;
/// Nanoseconds between two wakes for what doesn't press, under load: about a quarter of a core, whatever the number of
/// streams. After a pause a whole round waits for nothing, and each Fresh brings along what waits.
pub const HUB_BACKGROUND_PACE_NANOS: u64 = 50_000;
/// Longest time of one round over all streams, and longest distance of two rounds for kills.
pub const HUB_PACE_MAX: Millis = Millis(500);
/// Nanoseconds, per stream of a hub, after which a frame is to be acknowledged: about what a fan-out takes for a stream, so
/// that acknowledgements don't compete with those who haven't got it yet.
pub const HUB_ACK_PACE_NANOS: u64 = 16_000;
/// Below this an acknowledgement is to come at once: a wake-up takes about as long.
pub const HUB_ACK_AFTER_MIN: Millis = Millis(4);
/// Longest time that an acknowledgement is asked to wait: a receipt waits for the last.
pub const HUB_ACK_AFTER_MAX: Millis = Millis(500);
/// Bytes of one uncompressed chunk of a snapshot for enforcers.
pub const VIEW_CHUNK_BYTES_MAX: usize = 256 * 1_024;
/// Bytes of an encoded view: a million agents with labels, and two million revocations.
pub const VIEW_BYTES_MAX: usize = 1_024 * 1_024 * 1_024;
/// Snapshots that one hub sends at once; who comes next waits in line.
pub const HUB_SNAPSHOTS_AT_ONCE: usize = 64;
/// Enforcers that wait in line for a snapshot: all of them, after a cluster came back.
pub const HUB_SNAPSHOTS_WAITING_MAX: usize = HUB_STREAMS_MAX;
/// How long one enforcer may take for a snapshot before its place goes to the next.
pub const HUB_SNAPSHOT_TIMEOUT: Millis = Millis(5 * 60 * 1_000);
/// How long a hub waits before it takes up the feed from above again after a jump or a failure.
pub const HUB_FEED_RETRY: Millis = Millis(100);
/// How often somebody who waits for a clear looks anew, beside every acknowledgement.
pub const HUB_CLEAR_CHECK_INTERVAL: Millis = Millis(100);
/// How long a figure for the largest `max_staleness` of some paths is used before it is asked for again; a loosened one
/// counts at once.
pub const HUB_STALENESS_TTL: Millis = Millis(1_000);
/// Sets of paths whose figure is kept.
pub const HUB_STALENESS_SETS_MAX: usize = 4_096;
/// Hub endpoints that enforcers are told: every node.
pub const HUB_ENDPOINTS_MAX: usize = NODES_MAX;

// --- Doctor (crate node) ---------------------------------------------------------------------------------------------

/// Syncs by which a disk is judged, if they fit into the budget: enough that one slow one among many shows.
pub const DOCTOR_SYNC_PROBES: usize = 200;
/// How long somebody waits for that: also a disk of 50 ms a sync shows itself by then.
pub const DOCTOR_SYNC_PROBE_BUDGET: Millis = Millis(1_500);
/// How long clocks are watched: at 1,000 ppm they come 500 µs apart, five times what reading them blurs.
pub const DOCTOR_CLOCK_SPAN: Millis = Millis(500);
/// Connections that are opened to a node to measure the way there.
pub const DOCTOR_ROUND_TRIPS: usize = 5;
/// How long one may take.
pub const DOCTOR_ROUND_TRIP_TIMEOUT: Millis = Millis(2_000);
/// For how long the findings of a node about its machine are given to others who ask, instead of looking again.
pub const DOCTOR_FINDINGS_TTL: Millis = Millis(2_000);

// --- Relays (crate relay) --------------------------------------------------------------------------------------------

/// Frames from above that wait until the hub below has taken them; one that falls behind by more begins anew from where the
/// relay stands.
pub const RELAY_FEED_MAX: usize = 4_096;
/// Frames whose last event is remembered, so that an acknowledgement can name it: more than are under way to enforcers.
pub const RELAY_POSITIONS_MAX: usize = 4_096;
/// What a relay wants of the hub above and hasn't asked yet: probes, snapshots and acknowledgements, each of which waits but
/// a few times over, and all the renewals that there can be.
pub const RELAY_WISHES_MAX: usize = 16 + RELAY_RENEWALS_MAX;
/// How long a relay waits for the answer to the probe of those below before it probes for those who came meanwhile.
pub const RELAY_PROBE_TIMEOUT: Millis = Millis(1_000);
/// How long a relay waits for a snapshot from above: those who wait for it ask again.
pub const RELAY_SNAPSHOT_TIMEOUT: Millis = Millis(60_000);
/// Requests for renewed certificates that a relay passes on at once; who comes next asks again within the hour, and a third
/// of the certificate's life is left.
pub const RELAY_RENEWALS_MAX: usize = 64;
/// Longest time that a stopping relay may be told to wait for its ports to close.
pub const RELAY_DRAIN_TIMEOUT: Millis = Millis(5_000);

// --- Enforcement (crate node) ----------------------------------------------------------------------------------------

/// How often a wait for a kill looks at memberships and clocks, beside every word of a member.
pub const ENFORCEMENT_LOOK_INTERVAL: Millis = Millis(100);
/// How often a leader looks for kills without a receipt that nobody follows.
pub const STANDING_INTERVAL: Millis = Millis(1_000);
/// Enforcers that are waited for, by name in one report; the rest are counted.
pub const CLEAR_LAGGING_MAX: usize = 16;
/// How often one report of progress follows another on one stream, unless it is the last.
pub const PROGRESS_INTERVAL: Millis = Millis(100);
/// How long a call of one node to another may take.
pub const PEER_CALL_TIMEOUT: Millis = Millis(2_000);
/// How long a node waits before it asks another one again.
pub const PEER_RETRY: Millis = Millis(100);
/// How soon a node tries its part in a change of the trust bundle again, at first and at last: soon after an election, and
/// often enough for an operator who puts a missing key in place.
pub const BUNDLE_RETRY_MIN: Millis = Millis(100);
/// See [`BUNDLE_RETRY_MIN`].
pub const BUNDLE_RETRY_MAX: Millis = Millis(5_000);
/// How long a node that is asked about a kill waits until it has applied it.
pub const CLEAR_APPLY_PATIENCE: Millis = Millis(5_000);
/// How long a finished receipt is held back until the log has it.
pub const RECEIPT_RECORD_PATIENCE: Millis = Millis(2_000);
/// How often a receipt is proposed before it is given up; it is good without the log.
pub const RECEIPT_RECORD_TRIES: u32 = 30;
/// Streams of progress of one node at once, for people who wait.
pub const ENFORCEMENT_STREAMS_MAX: usize = 1_024;
/// Questions of other nodes that one node answers at a time, apart from people's: each other node about each kill that it
/// follows.
pub const PEER_STREAMS_MAX: usize = NODES_MAX * TRACKED_KILLS_MAX;
/// How long an enrolment may take until the token is used up in the log.
pub const ENROL_DEADLINE: Millis = Millis(30_000);
/// Calls at once on one connection of the edge port: enforcers behind one proxy or process share a connection.
pub const EDGE_STREAMS_PER_CONNECTION: u32 = 256;
/// Calls at once on one connection of the public port: an enrolment makes them one after another.
pub const PUBLIC_STREAMS_PER_CONNECTION: u32 = 4;

// --- Backups (crates pki and node) -----------------------------------------------------------------------------------

/// Keys that one backup is made for: an operations team, its escrow, and spares.
pub const BACKUP_RECIPIENTS_MAX: usize = 64;
/// Bytes of the part of a backup that stands in clear: recipients, at most so many, and a few lines.
pub const BACKUP_HEADER_BYTES_MAX: usize = 64 * 1_024;
/// Bytes of one part of a backup before encryption: one message of a stream.
pub const BACKUP_PART_BYTES_MAX: usize = 256 * 1_024;
/// Bytes of the signed statement at a backup's end, with the trust bundle to check it by: roots and all nodes.
pub const BACKUP_STATEMENT_BYTES_MAX: usize = 1_024 * 1_024;
/// Backups that a node makes at the same time; each holds a copy of the state alive.
pub const BACKUPS_MAX: usize = 2;
/// Parts of a backup that wait for a caller who reads slowly.
pub const BACKUP_PARTS_WAITING_MAX: usize = 4;
