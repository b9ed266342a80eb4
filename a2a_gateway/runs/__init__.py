"""The core: what a run is, whether it may start, and how it is led to its end.

It depends on neither OpenAI's format, FastAPI, OpenHands nor SQL; `ports` declares what it needs of them. Begin with `service`,
which draws the way of a request. The modules:

    model, events, messages, limits               the vocabulary: plain frozen data
    ports, run_queries, site                      what the core needs of others; a place where runs are executed
    attachment                                    how a door begins a run and reads its events
    service, intake, opening, leading             the way of a request: opening, then leading
    run_life, live                                what a live run may do next, and who reads it
    cancellation, finalization, revocation        how a run ends
    admission, budget, meter, presumptions        whether a run may start, and the money of one LLM call
    capacity, conversation_queue, leases,         what a run waits for: a slot, its turn, its conversation
      wait_graph, throttle
    deduplication, keyless_retries, retry_rule,   what a repeated request gets
      ended_runs, kept_outcome
    journal, journal_codec, kept_text             what is kept of a run beside its record
    event_log                                     logs events, and faults without their local variables
"""
