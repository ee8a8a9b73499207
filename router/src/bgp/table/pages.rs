//! Long lists that grow by a page, so that no step copies them and no memory is kept in reserve.
#![forbid(unsafe_code)]

use super::entries::Index;

/// A list.
pub(super) struct Pages<T> {
    /// All but the last are full.
    pages: Vec<Vec<T>>,
}

/// Numbers for the places of a list that are mostly the same one.
pub(super) struct Sparse {
    usual: u32,
    /// None of a page on which all are the usual one.
    pages: Vec<Option<Box<[u32; PAGE]>>>,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T> Pages<T> {
    pub(super) fn len(&self) -> usize {
        self.pages.last().map_or(0, |last| (self.pages.len() - 1) * PAGE + last.len())
    }

    pub(super) fn get(&self, index: Index) -> Option<&T> {
        let (page, at) = place(index);
        self.pages.get(page)?.get(at)
    }

    /// There has to be one.
    pub(super) fn get_mut(&mut self, index: Index) -> &mut T {
        let (page, at) = place(index);
        &mut self.pages[page][at]
    }

    /// Returns where it is.
    pub(super) fn push(&mut self, item: T) -> Index {
        if let Some(last) = self.pages.last_mut().filter(|last| last.len() < PAGE) {
            last.push(item);
        } else {
            let mut page = Vec::with_capacity(PAGE);
            page.push(item);
            self.pages.push(page);
        }
        self.len() as Index - 1
    }
}

impl Sparse {
    /// The usual one everywhere.
    pub(super) const fn of(usual: u32) -> Self {
        Self { usual, pages: Vec::new() }
    }

    pub(super) fn get(&self, index: Index) -> u32 {
        let (page, at) = place(index);
        let page = self.pages.get(page).and_then(Option::as_deref);
        page.map_or(self.usual, |page| page[at])
    }

    pub(super) fn set(&mut self, index: Index, number: u32) {
        let (page, at) = place(index);
        let is_there = self.pages.get(page).is_some_and(Option::is_some);
        if number == self.usual && !is_there {
            return;
        }
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        self.pages[page].get_or_insert_with(|| Box::new([self.usual; PAGE]))[at] = number;
    }
}

const fn place(index: Index) -> (usize, usize) {
    (index as usize / PAGE, index as usize % PAGE)
}

/// Of paths these are 64 KiB.
const PAGE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_what_is_pushed_in_its_places() {
        let mut list = Pages::default();
        let count = 3 * PAGE as u32 + 1;
        for number in 0..count {
            assert_eq!(list.push(number), number);
        }
        *list.get_mut(PAGE as u32) = 7;
        let expected = |index: u32| if index == PAGE as u32 { 7 } else { index };
        assert!((0..count).all(|index| list.get(index) == Some(&expected(index))));
        assert_eq!((list.get(count), list.len()), (None, count as usize));
        assert!(list.pages.iter().all(|page| page.capacity() == PAGE), "none was copied");
    }

    #[test]
    fn numbers_that_are_not_the_usual_one_take_one_page() {
        let mut numbers = Sparse::of(9);
        numbers.set(u32::MAX - 1, 9);
        assert!(numbers.pages.is_empty());
        numbers.set(5 * PAGE as u32, 1);
        assert_eq!((numbers.get(5 * PAGE as u32), numbers.get(5 * PAGE as u32 + 1)), (1, 9));
        assert_eq!((numbers.get(0), numbers.get(u32::MAX - 1)), (9, 9));
        assert_eq!(numbers.pages.iter().flatten().count(), 1);
        numbers.set(5 * PAGE as u32, 9);
        assert_eq!(numbers.get(5 * PAGE as u32), 9);
    }
}
