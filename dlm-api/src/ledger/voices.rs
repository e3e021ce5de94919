//! [`Voices`]: who said what about one thing, and whom to believe.

use crate::span::SourceId;

/// Who says something.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Voice {
    /// The caller. Beats everyone.
    User,
    /// The checkpoint of an earlier run.
    Record,
    /// A source.
    Source(SourceId),
}

/// How much a voice counts. One that has proven itself by verified bytes beats any number of newcomers that a download
/// is likely to have, and the user beats all.
pub(super) const WEIGHT_PLAIN: u32 = 1;
pub(super) const WEIGHT_PROVEN: u32 = 1_000;
pub(super) const WEIGHT_USER: u32 = 1_000_000;

/// What became of something said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Nobody said anything else.
    Accepted,
    /// Others are believed.
    Overruled,
    /// It is believed now, and these voices no more.
    Overturned(Vec<Voice>),
}

/// Who said what about one thing. The value with the greatest weight behind it holds; of equals the one said first.
#[derive(Clone, Debug)]
pub(super) struct Voices<T>(Vec<(Voice, T)>);

impl<T> Default for Voices<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Clone + PartialEq> Voices<T> {
    /// The value that holds.
    pub(super) fn value(&self, weight: impl Fn(Voice) -> u32) -> Option<&T> {
        let mut best: Option<(&T, u32)> = None;
        for (i, (_, value)) in self.0.iter().enumerate() {
            if self.0[..i].iter().any(|(_, earlier)| earlier == value) {
                continue;
            }
            let total = self.0.iter().filter(|(_, v)| v == value).map(|(who, _)| weight(*who)).sum();
            if total > 0 && best.is_none_or(|(_, most)| total > most) {
                best = Some((value, total));
            }
        }
        best.map(|(value, _)| value)
    }

    /// `who` says `value`, in place of what it said before.
    pub(super) fn say(&mut self, who: Voice, value: T, weight: impl Fn(Voice) -> u32) -> Verdict {
        let before = self.value(&weight).cloned();
        match self.0.iter_mut().find(|(w, _)| *w == who) {
            Some((_, old)) => *old = value.clone(),
            None => self.0.push((who, value.clone())),
        }
        let after = self.value(&weight);
        match before {
            _ if after != Some(&value) => Verdict::Overruled,
            Some(before) if before != value => {
                Verdict::Overturned(self.0.iter().filter(|(_, v)| *v != value).map(|(w, _)| *w).collect())
            }
            _ => Verdict::Accepted,
        }
    }

    /// Takes back what `who` said.
    pub(super) fn withdraw(&mut self, who: Voice) {
        self.0.retain(|(w, _)| *w != who);
    }

    /// Whether a source says this.
    pub(super) fn is_said_by_a_source(&self, value: &T) -> bool {
        self.0.iter().any(|(who, said)| matches!(who, Voice::Source(_)) && said == value)
    }

    /// What `who` said.
    pub(super) fn of(&self, who: Voice) -> Option<&T> {
        self.0.iter().find(|(w, _)| *w == who).map(|(_, v)| v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Voice = Voice::Source(SourceId::new(0));
    const B: Voice = Voice::Source(SourceId::new(1));
    const C: Voice = Voice::Source(SourceId::new(2));

    fn plain(who: Voice) -> u32 {
        if who == Voice::User { WEIGHT_USER } else { WEIGHT_PLAIN }
    }

    #[test]
    fn of_two_equals_the_first_holds_and_a_third_decides() {
        let mut voices = Voices::default();
        assert_eq!(voices.say(A, 100, plain), Verdict::Accepted);
        assert_eq!(voices.say(B, 200, plain), Verdict::Overruled);
        assert_eq!(voices.say(C, 200, plain), Verdict::Overturned(vec![A]));
        assert_eq!(voices.value(plain), Some(&200));
    }

    #[test]
    fn the_user_beats_any_agreement() {
        let mut voices = Voices::default();
        voices.say(A, 1, plain);
        voices.say(B, 1, plain);
        assert_eq!(voices.say(Voice::User, 2, plain), Verdict::Overturned(vec![A, B]));
        assert_eq!(voices.say(C, 1, plain), Verdict::Overruled);
    }

    #[test]
    fn one_proven_source_beats_two_newcomers() {
        let weight = |who| if who == A { WEIGHT_PROVEN } else { WEIGHT_PLAIN };
        let mut voices = Voices::default();
        voices.say(B, 1, weight);
        voices.say(C, 1, weight);
        assert_eq!(voices.say(A, 2, weight), Verdict::Overturned(vec![B, C]));
    }

    #[test]
    fn what_a_liar_said_is_gone_when_it_is_withdrawn() {
        let mut voices = Voices::default();
        voices.say(A, 1, plain);
        voices.say(B, 2, plain);
        voices.withdraw(A);
        assert_eq!(voices.value(plain), Some(&2));
    }
}
