//! Facts: who is believed, and what follows from it.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::voices::{Verdict, Voice, WEIGHT_PLAIN, WEIGHT_PROVEN, WEIGHT_USER};
use super::{EntryState, Ledger, SourceState};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::fact::{Fact, Identity, Piece, Strength};
use crate::path::EntryPath;
use crate::sink::{Entry, EntryKind};
use crate::span::{EntryId, OPEN_END, Span};

/// The most entries that a download can have: a listing that never ends is not worth more memory than this costs.
const MAX_ENTRIES: usize = 1 << 20;

fn weight(sources: &[SourceState]) -> impl Fn(Voice) -> u32 + Copy + '_ {
    move |who| match who {
        Voice::User => WEIGHT_USER,
        Voice::Record => WEIGHT_PLAIN,
        Voice::Source(source) if sources[source.index()].proven => WEIGHT_PROVEN,
        Voice::Source(_) => WEIGHT_PLAIN,
    }
}

fn disagrees(what: &'static str) -> Error {
    Error::new(ErrorKind::Changed, "disagrees with what is known of this download").with("about", what)
}

impl Ledger {
    /// Takes a fact. [`ErrorKind::Changed`] says that others, who are believed, say something else.
    pub fn learn(&mut self, who: Voice, fact: Fact) -> Result<()> {
        match fact {
            Fact::Entry { path, len } => {
                let id = self.learn_entry(who, path)?;
                len.map_or(Ok(()), |len| self.learn_len(who, id, len))
            }
            Fact::Len(id, len) => self.learn_len(who, id, len),
            Fact::Pieces(pieces) => {
                let learned = pieces.iter().try_for_each(|piece| self.learn_piece(who, piece));
                let entries: BTreeSet<EntryId> = pieces.iter().flat_map(|p| &p.spans).map(|s| s.entry).collect();
                entries.into_iter().for_each(|id| self.lay_grid(id));
                learned
            }
            Fact::Digest(id, digest) => {
                self.known(id)?;
                let verdict = self.entries[id.index()].facts.say_digest(who, digest, weight(&self.sources));
                self.judge(verdict, "the digest")
            }
            Fact::Identity(id, identity) => {
                self.known(id)?;
                let facts = &mut self.entries[id.index()].facts;
                match facts.say_identity(who, identity, weight(&self.sources)) {
                    Verdict::Accepted => Ok(()),
                    // Even if it is believed now: what was received belongs to another content.
                    Verdict::Overruled | Verdict::Overturned(_) => Err(disagrees("what the content is")),
                }
            }
            Fact::Name(id, name) => {
                self.known(id)?;
                self.entries[id.index()].facts.name.say(who, name, weight(&self.sources));
                Ok(())
            }
            // Whoever looks for containers has seen it; nothing else depends on it.
            Fact::MediaType(id, _) => self.known(id),
            Fact::Modified(id, time) => {
                self.known(id)?;
                self.entries[id.index()].facts.modified.say(who, time, weight(&self.sources));
                Ok(())
            }
            Fact::Padding(id) => {
                self.known(id)?;
                self.entries[id.index()].facts.padding.say(who, (), weight(&self.sources));
                // It comes with the pieces that it fills, and nobody asks for it.
                self.set_wanted(id, false);
                self.adopt_all_of(id);
                Ok(())
            }
            Fact::LayoutComplete => {
                self.complete_layout();
                Ok(())
            }
        }
    }

    fn known(&self, id: EntryId) -> Result<()> {
        if id.index() < self.entries.len() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidInput, "no such entry").with("entry", id))
    }

    fn learn_entry(&mut self, who: Voice, path: EntryPath) -> Result<EntryId> {
        if let Some(id) = self.by_path.get(&path) {
            self.entries[id.index()].recorded_only &= who == Voice::Record;
            return Ok(*id);
        }
        if self.layout_complete {
            // The only entry goes where the caller wants it, whatever the source calls it.
            if let (Voice::Source(source), 1) = (who, self.entries.len()) {
                let alias = &mut self.sources[source.index()].alias;
                if *alias.get_or_insert_with(|| path.clone()) == path {
                    let name = path.file_name().to_owned();
                    self.entries[0].facts.name.say(who, name, weight(&self.sources));
                    return Ok(EntryId::FIRST);
                }
            }
            return Err(disagrees("which files there are").with("path", path));
        }
        if self.entries.len() >= MAX_ENTRIES {
            return Err(Error::new(ErrorKind::TooLarge, "too many files in one download").with("limit", MAX_ENTRIES));
        }
        let id = EntryId::new(self.entries.len() as u32);
        let recorded_only = who == Voice::Record;
        let blocked = self.looks_first;
        self.entries.push(EntryState { recorded_only, blocked, ..EntryState::new(Some(path.clone())) });
        if blocked {
            self.unseen.insert(id);
        }
        self.by_path.insert(path, id);
        self.touch(id);
        Ok(id)
    }

    /// Adds the only entry of a download whose name is not known yet.
    pub fn add_unnamed(&mut self) -> EntryId {
        let id = EntryId::new(self.entries.len() as u32);
        self.entries.push(EntryState::new(None));
        self.touch(id);
        id
    }

    /// Gives an entry its path.
    pub fn set_path(&mut self, id: EntryId, path: EntryPath) {
        self.by_path.insert(path.clone(), id);
        self.entries[id.index()].path = Some(path);
    }

    fn learn_len(&mut self, who: Voice, id: EntryId, len: u64) -> Result<()> {
        self.known(id)?;
        if len >= OPEN_END {
            return Err(Error::new(ErrorKind::Protocol, "a length that no file can have").with("len", len));
        }
        // A digest beats a source's word.
        if matches!(who, Voice::Source(_)) && (self.pieces.end(id) > len || !self.fits_template(id, len)) {
            return Err(disagrees("the length"));
        }
        let verdict = self.entries[id.index()].facts.len.say(who, len, weight(&self.sources));
        let overturned = matches!(verdict, Verdict::Overturned(_));
        self.judge(verdict, "the length")?;
        if overturned {
            self.restarts_wanted.insert(id, "its length is another one than was believed".into());
        } else {
            self.apply_len(id);
        }
        Ok(())
    }

    /// Cuts the entry to the length that holds.
    pub(super) fn apply_len(&mut self, id: EntryId) {
        let state = &mut self.entries[id.index()];
        let Some(&len) = state.facts.len.value(weight(&self.sources)) else { return };
        if state.len == Some(len) {
            return;
        }
        if state.sealed.next_from(len).is_some() {
            self.restarts_wanted.insert(id, "it is shorter than what was received of it".into());
            return;
        }
        let before = state.len.replace(len);
        self.lay_out(id, len);
        for span in self.pieces.cut(id, len) {
            self.unverify(span);
        }
        let state = &mut self.entries[id.index()];
        state.free.remove(len..OPEN_END);
        for lease in self.leases.values_mut() {
            lease.carve(id, &(len..OPEN_END));
        }
        if let Some(before) = before.filter(|before| *before < len) {
            self.give_back(id, before..len);
        }
        self.touch(id);
    }

    /// The caller's pieces of the first entry, one after the other: their lengths and digests. They are laid out as soon as the
    /// entry's length is known, before a byte can be written.
    pub fn set_pieces(&mut self, pieces: Vec<(u64, Digest)>) {
        self.template = pieces;
        if self.entries.first().is_some_and(|entry| entry.len.is_some()) {
            self.lay_out(EntryId::FIRST, self.entries[0].len.unwrap_or(0));
        }
    }

    /// Whether an entry of this length has as many pieces as the caller named.
    fn fits_template(&self, id: EntryId, len: u64) -> bool {
        let Some((last, _)) = self.template.last().filter(|_| id == EntryId::FIRST) else { return true };
        let end = self.template.iter().fold(0_u64, |sum, (len, _)| sum.saturating_add(*len));
        len <= end && len > end.saturating_sub(*last)
    }

    fn lay_out(&mut self, id: EntryId, len: u64) {
        if id != EntryId::FIRST || self.template.is_empty() {
            return;
        }
        // The last piece may have been laid out for another length.
        for span in self.pieces.withdraw(Voice::User) {
            self.unverify(span);
        }
        let mut at = 0;
        for (piece_len, digest) in self.template.clone() {
            let end = len.min(at + piece_len);
            if at < end {
                // The user's word is never refused.
                let _ = self.learn_piece(Voice::User, &Piece::new(Span::new(id, at..end), digest));
            }
            at = end;
        }
        self.lay_grid(id);
    }

    /// What was checked counts as unchecked.
    fn unverify(&mut self, span: Span) {
        self.entries[span.entry.index()].verified.remove(span.range);
        self.touch(span.entry);
    }

    fn judge(&mut self, verdict: Verdict, what: &'static str) -> Result<()> {
        match verdict {
            Verdict::Accepted => Ok(()),
            Verdict::Overruled => Err(disagrees(what)),
            Verdict::Overturned(losers) => {
                for loser in losers {
                    if let Voice::Source(source) = loser {
                        self.accuse(source, disagrees(what));
                    }
                }
                Ok(())
            }
        }
    }

    fn learn_piece(&mut self, who: Voice, piece: &Piece) -> Result<()> {
        for span in &piece.spans {
            self.known(span.entry)?;
            let end = self.entries[span.entry.index()].end();
            if span.is_empty() || span.is_open_ended() {
                return Err(Error::new(ErrorKind::Protocol, "a piece without bytes or end")
                    .with("span", format_args!("{span:?}")));
            }
            if span.range.end > end {
                return Err(disagrees("the length").with("span", format_args!("{span:?}")).with("len", end));
            }
        }
        if piece.spans.is_empty() {
            return Err(Error::new(ErrorKind::Protocol, "a piece without bytes"));
        }
        // So that whoever takes bytes of an entry meets such a piece only at his first byte or his last.
        let goes_on = |pair: &[Span]| {
            let [one, next] = pair else { return false };
            one.entry < next.entry
                && Some(one.range.end) == self.entries[one.entry.index()].len
                && next.range.start == 0
        };
        if !piece.spans.windows(2).all(goes_on) {
            return Err(Error::new(
                ErrorKind::Protocol,
                "a piece that does not go on from the end of one file to the start of another",
            ));
        }
        if who == Voice::User {
            for span in self.pieces.make_way(&piece.spans) {
                self.unverify(span);
            }
        }
        if self.pieces.add(piece, who)? {
            self.make_room_for(&piece.spans);
            self.adopt(&piece.spans);
        }
        Ok(())
    }

    /// Once an entry has many pieces of one length, its sets keep a bit for each.
    fn lay_grid(&mut self, id: EntryId) {
        let Some(state) = self.entries.get_mut(id.index()) else { return };
        let known = state.grid.map_or(0, |grid| grid.cells);
        if let Some(grid) = self.pieces.grid(id).filter(|grid| grid.cells > known) {
            state.lay_grid(grid);
        }
    }

    /// Bytes that came before their piece was known: a lease that has a bit of a part of it loses that, and what is sealed is
    /// checked, or fetched again where a part isn't whole.
    fn make_room_for(&mut self, spans: &[Span]) {
        for lease in self.leases.values_mut() {
            for span in spans.iter().filter(|span| !lease.holds(span)).collect::<Vec<_>>() {
                lease.carve(span.entry, &span.range);
            }
        }
        for span in self.settle_parts(spans) {
            // A lease in the middle of it would never have it whole.
            self.leases.values_mut().for_each(|lease| lease.carve(span.entry, &span.range));
        }
        if let Some(id) = self.pieces.at(spans[0].entry, spans[0].range.start) {
            self.recheck_if_whole(id);
        }
        for span in spans {
            self.give_back(span.entry, span.range.clone());
        }
    }

    /// What `who` said is forgotten, and what others say instead holds. What was checked against its digests counts as
    /// unchecked.
    pub fn withdraw_facts(&mut self, who: Voice) {
        for span in self.pieces.withdraw(who) {
            self.unverify(span);
        }
        for i in 0..self.entries.len() {
            let facts = &mut self.entries[i].facts;
            let was_padding = facts.padding.value(weight(&self.sources)).is_some();
            facts.withdraw(who);
            if was_padding && facts.padding.value(weight(&self.sources)).is_none() {
                self.set_wanted(EntryId::new(i as u32), true);
            }
            self.apply_len(EntryId::new(i as u32));
        }
    }

    /// The entry with this path, as this source calls it.
    pub fn entry_at(&self, who: Voice, path: &EntryPath) -> Option<EntryId> {
        let alias = match who {
            Voice::Source(source) => self.sources[source.index()].alias.as_ref(),
            _ => None,
        };
        if alias == Some(path) { Some(EntryId::FIRST) } else { self.by_path.get(path).copied() }
    }

    /// What is known of an entry; its path only once it has one.
    pub fn entry(&self, id: EntryId) -> Option<Entry> {
        let state = &self.entries[id.index()];
        let mut entry = Entry::new(id, state.path.clone()?);
        entry.len = state.len;
        entry.modified = self.modified(id);
        if self.is_padding(id) {
            entry.kind = EntryKind::Padding;
        } else if !state.wanted {
            let before = self.entries[..id.index()].iter().map(|entry| entry.len.unwrap_or(0));
            // The same in each run, as long as the entries are.
            entry.kind = EntryKind::Unwanted { base: before.fold(0, u64::saturating_add) };
        }
        Some(entry)
    }

    /// Whether an entry is zeros that are kept nowhere.
    pub fn is_padding(&self, id: EntryId) -> bool {
        self.entries[id.index()].facts.padding.value(weight(&self.sources)).is_some()
    }

    /// The length of an entry, once it is known.
    pub fn len(&self, id: EntryId) -> Option<u64> {
        self.entries[id.index()].len
    }

    /// The path of an entry, once it has one.
    pub fn path(&self, id: EntryId) -> Option<&EntryPath> {
        self.entries[id.index()].path.as_ref()
    }

    /// The name that was suggested for an entry.
    pub fn name(&self, id: EntryId) -> Option<&str> {
        self.entries[id.index()].facts.name.value(weight(&self.sources)).map(String::as_str)
    }

    /// When an entry's content was last changed.
    pub fn modified(&self, id: EntryId) -> Option<SystemTime> {
        self.entries[id.index()].facts.modified.value(weight(&self.sources)).copied()
    }

    /// What an entry as a whole must hash to.
    pub fn digests(&self, id: EntryId) -> Vec<Digest> {
        self.entries[id.index()].facts.digests(weight(&self.sources))
    }

    /// What an entry's content is, by everyone who is believed.
    pub fn identities(&self, id: EntryId) -> Vec<Identity> {
        self.entries[id.index()].facts.identities(weight(&self.sources))
    }

    /// Whether the caller knows what an entry as a whole must hash to.
    pub fn has_user_digest(&self, id: EntryId) -> bool {
        self.entries[id.index()].facts.has_user_digest()
    }

    /// Whether a source of this run says what the content is, and that is what is believed.
    pub fn has_live_identity(&self, id: EntryId, strength: Strength) -> bool {
        self.entries[id.index()].facts.has_live_identity(strength, weight(&self.sources))
    }

    /// Whether all of an entry is, or will be, checked piece by piece.
    pub fn is_covered_by_pieces(&self, id: EntryId) -> bool {
        self.entries[id.index()].len.is_some_and(|len| len > 0 && self.pieces.cover(id, len))
    }

    /// Whether an entry has pieces at all.
    pub fn has_pieces(&self, id: EntryId) -> bool {
        self.pieces.has_any(id)
    }

    /// What this source said of an entry's length.
    pub fn len_said_by(&self, id: EntryId, who: Voice) -> Option<u64> {
        self.entries[id.index()].facts.len.of(who).copied()
    }
}
