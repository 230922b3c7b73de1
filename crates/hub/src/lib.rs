//! The edge hub: takes one feed of enforcement events and one source of freshness from above, and serves them to many
//! enforcers (design 01, Edge hub; 02).
