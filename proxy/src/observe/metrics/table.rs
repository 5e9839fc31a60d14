//! A table that only grows, read and added to without a lock.
//!
//! The counters of a scope stand in one: recording follows a short chain of
//! pointers and touches no memory that another worker writes. What is not used
//! takes a word. Rows go with their table.

use std::fmt;
use std::sync::OnceLock;

/// Chains of one table. A scope has few rows; this bounds the walk where it has many.
const CHAINS: usize = 16;

/// Rows that are found by a number and a test.
pub(super) struct Table<T>(OnceLock<Box<[Chain<T>; CHAINS]>>);

struct Chain<T>(OnceLock<Box<Link<T>>>);

struct Link<T> {
    row: T,
    next: Chain<T>,
}

impl<T> Table<T> {
    pub(super) const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The row that `is` the wanted one among those of `number`, made if need be.
    /// Two threads may make the same row; one of them is then dropped.
    pub(super) fn find_or_add(
        &self,
        number: usize,
        is: impl Fn(&T) -> bool,
        make: impl Fn() -> T,
    ) -> &T {
        let chains = self
            .0
            .get_or_init(|| Box::new(std::array::from_fn(|_| Chain::new())));
        let mut chain = chains
            .get(number % CHAINS)
            .expect("less than the chains there are");
        loop {
            let link = chain.0.get_or_init(|| {
                Box::new(Link {
                    row: make(),
                    next: Chain::new(),
                })
            });
            if is(&link.row) {
                return &link.row;
            }
            chain = &link.next;
        }
    }

    /// All rows, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let chains = self.0.get().into_iter().flat_map(|chains| chains.iter());
        chains.flat_map(|chain| {
            let first = chain.0.get();
            std::iter::successors(first, |link| link.next.0.get()).map(|link| &link.row)
        })
    }
}

impl<T> Chain<T> {
    const fn new() -> Self {
        Self(OnceLock::new())
    }
}

/// Not by recursion, which a long chain would make deep.
impl<T> Drop for Chain<T> {
    fn drop(&mut self) {
        let mut next = self.0.take();
        while let Some(mut link) = next {
            next = link.next.0.take();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_made_once_whoever_asks() {
        let table = Table::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..1000 {
                        let row = table.find_or_add(number, |row| *row == number, || number);
                        assert_eq!(*row, number);
                    }
                });
            }
        });
        let mut rows: Vec<_> = table.iter().copied().collect();
        rows.sort_unstable();
        assert!(rows.into_iter().eq(0..1000));
    }

    #[test]
    fn a_long_chain_is_dropped_without_recursion() {
        let table = Table::new();
        let chain = &table
            .0
            .get_or_init(|| Box::new(std::array::from_fn(|_| Chain::new())))[0];
        let mut end = chain;
        for number in 0..200_000 {
            let link = Link {
                row: number,
                next: Chain::new(),
            };
            end = &end.0.get_or_init(|| Box::new(link)).next;
        }
        assert_eq!(table.iter().count(), 200_000);
        drop(table);
    }
}
