"""The captioning job: every image of an input gets exactly one row, whatever dies on the way.

    plan     which items, in which order, in units of fixed size; written once, never changed        plan, inputs
    lease    one process at a time works on a unit; a dead process's lease ends with it              leases
    unit     items → rows, a pure function of the unit and the settings                              unit, quality
    ledger   a unit is done when its record is there, which holds the hash of its rows               ledger
    merge    units one behind the other, in the order of the plan                                    outputs

So what comes out does not depend on how many processes there were, where, or how often they were killed; when and by
whom a unit was made stands in its record alone.
"""
