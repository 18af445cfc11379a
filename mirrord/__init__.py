"""mirrord keeps a publisher's website readable when the datacentre that serves it is gone.

The package reads in the order in which the data travels:

    source -> snapshot -> plan -> publish => mirrors           (content goes out)
    mirrors => probe -> health -> decide -> switch => readers  (attention comes back, traffic moves)
                    everything -> journal -> report            (people and machines are told)

`=>` leaves the process. `manifest`, `assets`, `delta`, `plan`, and all from `looks` to `records` are pure: no socket,
file, clock, randomness or log; time is an argument. IO stands at the edges, one door for each third-party library,
where its exceptions become ours (`errors`). A module imports only what stands to its left:

    errors < manifest < siblings < assets < delta < plan < looks < health < rules < heirs < sharing < decide
    < records < trust < snapshot < hosts < comparing < publish < probe < switches < journal < report < config < control
    < daemon < demo < cli
"""

__version__ = "0.1.0"
