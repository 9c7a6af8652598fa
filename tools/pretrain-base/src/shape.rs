//! The shapes of local structures.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Line,
    Arc,
    Ring,
    Spiral,
    Walk,
    Branches,
    Zigzag,
    Star,
    Parallels,
    Spot,
    Disc,
    Rectangle,
    Stain,
    Outline,
    Specks,
    Drops,
    Flakes,
    Net,
    Dent,
    Smear,
    Band,
    Step,
    /// A patch of finer or coarser grain.
    Grain,
    /// A patch out of focus, or with noise on it.
    Focus,
}

impl Shape {
    pub(crate) const ALL: [Self; 24] = [
        Self::Line,
        Self::Arc,
        Self::Ring,
        Self::Spiral,
        Self::Walk,
        Self::Branches,
        Self::Zigzag,
        Self::Star,
        Self::Parallels,
        Self::Spot,
        Self::Disc,
        Self::Rectangle,
        Self::Stain,
        Self::Outline,
        Self::Specks,
        Self::Drops,
        Self::Flakes,
        Self::Net,
        Self::Dent,
        Self::Smear,
        Self::Band,
        Self::Step,
        Self::Grain,
        Self::Focus,
    ];
}
