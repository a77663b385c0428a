//! Who goes on first where several could: first come, first served; drawn by lot; or chosen, one choice after the other, and written down.

/// One of several that could come next was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Which, from 0 on; 0 is what comes next without choices.
    pub taken: u32,
    /// Of how many, at least two.
    pub of: u32,
}

/// Choices that are given, and those that were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    given: Vec<u32>,
    made: Vec<Choice>,
    misfit: Option<Misfit>,
}

/// A choice that is given is none of those that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Which of the choices, from 0 on.
    pub index: usize,
    /// What is given.
    pub given: u32,
    /// How many there are to choose from; 0 where nothing is left to be chosen.
    pub of: u32,
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { index, given, of } = self;
        match of {
            0 => write!(f, "choice {index} is given, and all is over after {index}"),
            _ => write!(f, "choice {index} is {given}, and there are {of} to choose from, 0 to {}", of - 1),
        }
    }
}

impl std::error::Error for Misfit {}

impl Choices {
    /// First these, then always the first.
    #[must_use]
    pub fn new(given: Vec<u32>) -> Self {
        Self { given, ..Self::default() }
    }

    /// Those that were made, in order.
    #[must_use]
    pub fn made(&self) -> &[Choice] {
        &self.made
    }

    /// Whether each choice that was given was one, when all is over.
    ///
    /// # Errors
    /// The first that was none.
    pub fn check(&self) -> Result<(), Misfit> {
        let rest = self.given.get(self.made.len()).map(|given| Misfit { index: self.made.len(), given: *given, of: 0 });
        self.misfit.or(rest).map_or(Ok(()), Err)
    }

    /// What is taken of so many.
    pub(super) fn choose(&mut self, count: usize) -> usize {
        if count < 2 {
            return 0;
        }
        let (index, of) = (self.made.len(), count as u32);
        let given = self.given.get(index).copied().unwrap_or(0);
        if given >= of {
            self.misfit.get_or_insert(Misfit { index, given, of });
        }
        let taken = given.min(of - 1);
        self.made.push(Choice { taken, of });
        taken as usize
    }
}

/// Who goes on first.
#[derive(Debug)]
pub(super) enum Order {
    FirstCome,
    /// With the world's random numbers.
    Drawn,
    Chosen(Choices),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_that_are_given_are_made_and_what_does_not_fit_is_said() {
        let mut choices = Choices::new(vec![1, 2]);
        assert_eq!([choices.choose(2), choices.choose(1), choices.choose(3), choices.choose(4)], [1, 0, 2, 0]);
        let made: Vec<_> = choices.made().iter().map(|choice| (choice.taken, choice.of)).collect();
        assert_eq!(made, [(1, 2), (2, 3), (0, 4)]);
        assert_eq!(choices.check(), Ok(()));
        let mut choices = Choices::new(vec![0, 5, 1]);
        assert_eq!([choices.choose(2), choices.choose(3)], [0, 2]);
        assert_eq!(choices.check().unwrap_err().to_string(), "choice 1 is 5, and there are 3 to choose from, 0 to 2");
        let mut choices = Choices::new(vec![1, 1]);
        choices.choose(2);
        assert_eq!(choices.check().unwrap_err().to_string(), "choice 1 is given, and all is over after 1");
    }
}
