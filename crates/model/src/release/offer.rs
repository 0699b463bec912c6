//! What somebody may do about the version of a project that is in effect.

/// How it stands with the generations of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// One is in effect, and nobody changes that.
    Settled {
        /// Whether there was an earlier one.
        has_earlier: bool,
    },
    /// Somebody changes it.
    UnderWay,
    /// Who changed it died.
    CutOff,
    /// A change could be brought to neither of its ends.
    NeedsOperator,
}

/// Something that is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// To bring about what is declared now, or another version.
    Upgrade,
    /// To go back to an earlier generation.
    RollBack,
    /// To stop a change, and go back to where it began, unless it is committed.
    Cancel,
    /// To bring a change to one of its ends.
    Recover,
}

impl Offer {
    /// As it is asked for.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upgrade => "upgrade",
            Self::RollBack => "rollback",
            Self::Cancel => "cancel",
            Self::Recover => "recover",
        }
    }

    /// What its button says. What ends with dots is shown first, and then asked for again.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Upgrade => "Upgrade...",
            Self::RollBack => "Roll back...",
            Self::Cancel => "Cancel",
            Self::Recover => "Recover",
        }
    }

    /// What the button says below what it would do: to which version it leads, where that has a name, and whether what
    /// was written is lost then.
    #[must_use]
    pub fn confirmed(self, to: Option<&str>, loses: bool) -> String {
        let to = to.map_or_else(String::new, |to| format!(" to {to}"));
        match self {
            Self::Upgrade => format!("Upgrade{to}"),
            Self::RollBack if loses => format!("Go back{to}, and lose these writes"),
            Self::RollBack => format!("Go back{to}"),
            Self::Cancel | Self::Recover => self.label().to_owned(),
        }
    }

    /// Whether what it would do is shown before it is done.
    #[must_use]
    pub fn is_planned(self) -> bool {
        matches!(self, Self::Upgrade | Self::RollBack)
    }
}

/// What is offered, the least likely first.
#[must_use]
pub fn offers(standing: Standing) -> &'static [Offer] {
    match standing {
        Standing::Settled { has_earlier: true } => &[Offer::RollBack, Offer::Upgrade],
        Standing::Settled { has_earlier: false } => &[Offer::Upgrade],
        Standing::UnderWay => &[Offer::Cancel],
        Standing::CutOff | Standing::NeedsOperator => &[Offer::Recover],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_begun_while_something_is_under_way_or_left() {
        for standing in [Standing::UnderWay, Standing::CutOff, Standing::NeedsOperator] {
            assert!(!offers(standing).iter().any(|offer| offer.is_planned()), "{standing:?}");
        }
        assert_eq!(offers(Standing::Settled { has_earlier: false }), [Offer::Upgrade]);
    }

    #[test]
    fn what_is_shown_first_says_so() {
        for offer in [Offer::Upgrade, Offer::RollBack, Offer::Cancel, Offer::Recover] {
            assert_eq!(offer.label().ends_with("..."), offer.is_planned(), "{offer:?}");
        }
    }
}
