//! The same scenario through HAProxy and through Tidegate: what servers and
//! clients see of limits, queues, health and retries must be the same.

#[cfg(test)]
mod oracle {
    mod back;
    mod compare;
    mod plan;
    mod stage;

    mod choice;
    mod curve;
    mod down;
    mod leave;
    mod order;
    mod retries;
    mod sticky;
}
