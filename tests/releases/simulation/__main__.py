"""`make simulate`: thousands of simulated lives, each from a seed; fails when a promise broke."""
from __future__ import annotations
import argparse, sys, time
from tests.releases.simulation.places import Memory
from tests.releases.simulation.scenario import draw
from tests.releases.simulation.world import World
from collections import Counter
def main():
    p=argparse.ArgumentParser(); p.add_argument("--seeds",type=int,default=100); p.add_argument("--first",type=int,default=0); p.add_argument("--show",action="store_true")
    o=p.parse_args(); m=Memory(); t=time.process_time(); ends=Counter(); problems=Counter(); ex={}
    for seed in range(o.first,o.first+o.seeds):
        out=World(draw(seed),m).run()
        ends.update(out.ends)
        if o.show: print("\n".join(out.trace))
        if out.problem: problems[out.problem[:90]]+=1; ex.setdefault(out.problem[:90],[]).append(seed)
    print((time.process_time()-t)/o.seeds*1e3,"ms/seed",ends)
    for k,n in problems.most_common(): print(n,k,ex[k][:5])
main()
