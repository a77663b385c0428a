//! Parts of a value that tasks change in place: rectangles, rows, columns, diagonals, triangles, fields.
//!
//! Tasks with access to parts that have no element in common run at the same time; others in the order of their spawns. What two parts have in common is decided by
//! where their elements lie, and not by the smallest box around them.
//!
//! ```
//! use ndarray::{Array2, s};
//! use poniard::{Mutable, Runtime, View, ViewMut, read, write};
//!
//! fn add(from: View<'_, f64>, mut to: ViewMut<'_, f64>) {
//!     to.array_mut::<ndarray::Ix2>().zip_mut_with(&from.array::<ndarray::Ix2>(), |to, from| *to += from);
//! }
//! let runtime = Runtime::new()?;
//! let matrix = Mutable::new(Array2::<f64>::ones((4, 4)));
//! let left = matrix.part(s![.., ..2])?;
//! let right = matrix.part(s![.., 2..])?;
//! runtime.spawn(add, (read(&left), write(&right)));
//! runtime.spawn(add, (read(&right), write(&left)));
//! assert_eq!(matrix.take()?.row(0).to_vec(), [3.0, 3.0, 2.0, 2.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::ops::{RangeBounds, RangeInclusive};
use std::sync::Arc;

use ndarray::{Array, Dimension, IntoDimension, SliceInfoElem};
use poniard_interface::Access;

use crate::data::Data;
use crate::error::TaskError;
use crate::mutable::{Elements, Mutable, PartReading, Readable, Writable};

mod elements;
mod field;
mod form;
mod near;
mod order;
mod spans;
mod view;

pub use elements::Parts;
pub use field::{Field, FieldPart, ReadField, WriteField};
#[doc(hidden)]
pub use form::Form;
pub use form::PartError;
pub(crate) use near::Near;
pub(crate) use order::{put_elements, swap_elements, take_elements};
#[doc(hidden)]
pub use spans::Spans;
pub use view::{View, ViewMut};

impl<E: Data> Part<E> {
    pub(crate) fn of(owner: &Arc<dyn Elements<E>>, form: Form) -> Self {
        let (number, spans) = crate::mutable::named(&**owner, form.spans());
        Self { owner: Arc::clone(owner), number, spans, form: Arc::new(form), around: None }
    }

    /// A part of a value that is nowhere else.
    pub(crate) fn alone(owner: Arc<dyn Elements<E>>, form: Form) -> Self {
        Self { owner, number: 0, spans: Arc::new(Spans::run(0, 0)), form: Arc::new(form), around: None }
    }

    fn with(&self, form: Form) -> Self {
        Self { around: self.around.clone(), ..Self::of(&self.owner, form) }
    }

    /// A rectangle of it, with ndarray's `s!`: `part.part(s![0..2, ..;2])`. An index takes its dimension away.
    ///
    /// # Errors
    /// [`PartError`] when there is no such rectangle.
    pub fn part(&self, ranges: impl AsRef<[SliceInfoElem]>) -> Result<Self, PartError> {
        Ok(self.with(self.form.slice(ranges.as_ref())?))
    }

    /// Rows, with all of their elements.
    ///
    /// # Errors
    /// [`PartError`] when there are no such rows.
    pub fn rows(&self, rows: impl RangeBounds<usize>) -> Result<Self, PartError> {
        Ok(self.with(self.form.along(0, rows)?))
    }

    /// Columns, with all of their elements.
    ///
    /// # Errors
    /// [`PartError`] when there are no such columns.
    pub fn columns(&self, columns: impl RangeBounds<usize>) -> Result<Self, PartError> {
        Ok(self.with(self.form.along(1, columns)?))
    }

    /// The same elements, row by row, in another shape: what a matrix in a [`Buffer`](crate::Buffer) is. A halo goes as far as this shape does.
    ///
    /// ```
    /// use ndarray::{Ix2, s};
    /// use poniard::{Mutable, Runtime, ViewMut, buffer, write};
    ///
    /// fn fill(mut tile: ViewMut<'_, f64>) {
    ///     tile.array_mut::<Ix2>().fill(1.0);
    /// }
    /// let runtime = Runtime::new()?;
    /// let values = Mutable::new(buffer::zeroed::<f64>(12));
    /// let matrix = values.whole()?.shaped((3, 4))?;
    /// runtime.spawn(fill, (write(&matrix.part(s![1.., 2..])?),));
    /// assert_eq!(**values.fetch()?, [0., 0., 0., 0., 0., 0., 1., 1., 0., 0., 1., 1.]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`PartError`] when they do not lie side by side, or are not as many as the shape has.
    pub fn shaped(&self, shape: impl IntoDimension) -> Result<Self, PartError> {
        let form = self.form.shaped(shape.into_dimension().slice())?;
        let part = Self::of(&self.owner, form);
        Ok(Self { around: Some(Arc::clone(&part.form)), ..part })
    }

    /// The elements of a matrix whose row is their column, as a list.
    ///
    /// # Errors
    /// [`PartError`] when this is no matrix.
    pub fn diagonal(&self) -> Result<Self, PartError> {
        Ok(self.with(self.form.diagonal()?))
    }

    /// The diagonal of a matrix and what is above it.
    ///
    /// # Errors
    /// As [`diagonal`](Self::diagonal).
    pub fn upper(&self) -> Result<Self, PartError> {
        Ok(self.with(self.form.band((0, i64::MAX), "triangle")?))
    }

    /// What is above the diagonal of a matrix.
    ///
    /// # Errors
    /// As [`diagonal`](Self::diagonal).
    pub fn strictly_upper(&self) -> Result<Self, PartError> {
        Ok(self.with(self.form.band((1, i64::MAX), "triangle")?))
    }

    /// The diagonal of a matrix and what is below it.
    ///
    /// # Errors
    /// As [`diagonal`](Self::diagonal).
    pub fn lower(&self) -> Result<Self, PartError> {
        Ok(self.with(self.form.band((i64::MIN, 0), "triangle")?))
    }

    /// What is below the diagonal of a matrix.
    ///
    /// # Errors
    /// As [`diagonal`](Self::diagonal).
    pub fn strictly_lower(&self) -> Result<Self, PartError> {
        Ok(self.with(self.form.band((i64::MIN, -1), "triangle")?))
    }

    /// The elements of a matrix whose column less their row is in a range: `-1..=1` for three diagonals.
    ///
    /// # Errors
    /// As [`diagonal`](Self::diagonal).
    pub fn band(&self, band: RangeInclusive<i64>) -> Result<Self, PartError> {
        Ok(self.with(self.form.band(band.into_inner(), "band")?))
    }

    /// This rectangle and what lies around it in the value, up to so many elements in each direction: what a stencil reads.
    ///
    /// # Errors
    /// [`PartError`] when it has steps, or fewer dimensions than the value.
    pub fn with_halo(&self, width: usize) -> Result<Self, PartError> {
        let whole = match &self.around {
            Some(around) => **around,
            None => self.owner.form()?,
        };
        Ok(self.with(self.form.widened(&whole, width)?))
    }

    /// The length of each dimension. Of a triangle or a band, that of the matrix.
    pub fn shape(&self) -> &[usize] {
        self.form.lens()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Whether the two have an element in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        crate::mutable::is_same(&*self.owner, &*other.owner) && self.spans.meets(&other.spans)
    }

    /// As [`Mutable::fetch`], for these elements.
    ///
    /// # Errors
    /// As [`Mutable::fetch`]; also when the value has another shape by now.
    #[track_caller]
    pub fn fetch(&self) -> Result<PartReading<'_, E>, TaskError> {
        PartReading::new(self)
    }
}

/// Some elements of a [`Mutable`]: give [`read`](crate::read), [`write`](crate::write()) or [`overwrite`](crate::overwrite) of it for a parameter [`View`] or
/// [`ViewMut`]. Cheap to clone.
///
/// Made with the shape that the value had when its `Mutable` was made. A task that gives the value another shape lets those fail that use parts later.
///
/// Tasks with access to a part run on threads and on worker processes, where those of a [`Buffer`](crate::Buffer) are used where they are; kernels take parts of buffers that are
/// rectangles.
pub struct Part<E> {
    pub(crate) owner: Arc<dyn Elements<E>>,
    pub(crate) number: u32,
    pub(crate) spans: Arc<Spans>,
    pub(crate) form: Arc<Form>,
    /// What a halo ends with, if that is not the value.
    around: Option<Arc<Form>>,
}

impl<E> Clone for Part<E> {
    fn clone(&self) -> Self {
        Self {
            owner: Arc::clone(&self.owner),
            number: self.number,
            spans: Arc::clone(&self.spans),
            form: Arc::clone(&self.form),
            around: self.around.clone(),
        }
    }
}

impl<E> fmt::Debug for Part<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Part").field(&self.form).finish()
    }
}

impl<T: Parts> Mutable<T> {
    /// All of it, as a part.
    ///
    /// # Errors
    /// [`PartError`] when the value is an array of more than six dimensions.
    pub fn whole(&self) -> Result<Part<T::Element>, PartError> {
        self.taken(Ok)
    }

    fn taken(&self, take: impl FnOnce(Form) -> Result<Form, PartError>) -> Result<Part<T::Element>, PartError> {
        let owner = self.elements();
        let form = take(owner.form()?)?;
        Ok(Part::of(&owner, form))
    }

    /// A rectangle of it: see [`Part::part`].
    ///
    /// # Errors
    /// As [`Part::part`] and [`whole`](Self::whole).
    pub fn part(&self, ranges: impl AsRef<[SliceInfoElem]>) -> Result<Part<T::Element>, PartError> {
        self.taken(|form| form.slice(ranges.as_ref()))
    }

    /// Rows of it: see [`Part::rows`].
    ///
    /// # Errors
    /// As [`Part::rows`] and [`whole`](Self::whole).
    pub fn rows(&self, rows: impl RangeBounds<usize>) -> Result<Part<T::Element>, PartError> {
        self.taken(|form| form.along(0, rows))
    }

    /// Columns of it: see [`Part::columns`].
    ///
    /// # Errors
    /// As [`Part::columns`] and [`whole`](Self::whole).
    pub fn columns(&self, columns: impl RangeBounds<usize>) -> Result<Part<T::Element>, PartError> {
        self.taken(|form| form.along(1, columns))
    }
}

/// What [`read`](crate::read) makes of a [`Part`].
#[derive(Debug)]
pub struct ReadPart<E>(pub(crate) Part<E>);

/// What [`write`](crate::write()) and [`overwrite`](crate::overwrite) make of a [`Part`].
#[derive(Debug)]
pub struct WritePart<E>(pub(crate) Part<E>, pub(crate) Access);

impl<E> Readable for Part<E> {
    type Argument = ReadPart<E>;

    fn argument(&self) -> ReadPart<E> {
        ReadPart(self.clone())
    }
}

impl<E> Writable for Part<E> {
    type Argument = WritePart<E>;

    fn argument(&self, access: Access) -> WritePart<E> {
        WritePart(self.clone(), access)
    }
}

/// How the elements of a value lie.
pub(crate) type FormOf<T> = fn(&T) -> Result<Form, PartError>;

/// Where they begin, and how many bytes one has, if they are nothing but bytes.
pub(crate) type FirstOf<T> = fn(&T) -> Option<(*const u8, usize)>;

/// Lists have one dimension.
pub(crate) fn of_list(len: usize) -> Result<Form, PartError> {
    Ok(Form::list(len))
}

pub(crate) fn of_array<T, D: Dimension>(array: &Array<T, D>) -> Result<Form, PartError> {
    Form::new(array.shape(), array.strides())
}
