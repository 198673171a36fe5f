import { MAX_SCORE, type Plugin } from '../framework.ts';

/** Enough of every resource left; scores nodes higher the more of cpu and memory is left (LeastAllocated). */
export const nodeResourcesFit: Plugin = {
  name: 'NodeResourcesFit',
  weight: 1,
  events: ['NodeAdd', 'NodeAllocatable', 'AssignedPodDelete', 'AssignedPodUpdate'],
  prepare({ requests, score }) {
    const asked = Object.keys(requests).filter((name) => requests[name]! > 0);
    return {
      filter(node) {
        let reasons: string[] | undefined;
        let resolvable = true;
        const pods = node.allocatable['pods'] ?? 0;
        if (node.pods.size + 1 > pods) reasons = ['Too many pods'];
        for (const name of asked) {
          const has = node.allocatable[name] ?? 0;
          if (requests[name]! <= has - (node.requested[name] ?? 0)) continue;
          (reasons ??= []).push(`Insufficient ${name}`);
          // Not even an empty node would do.
          if (requests[name]! > has) resolvable = false;
        }
        return reasons && { reasons, resolvable };
      },
      score(node) {
        const free = (has: number, used: number) => (has <= 0 || used > has ? 0 : Math.floor(((has - used) * MAX_SCORE) / has));
        const cpu = free(node.allocatable['cpu'] ?? 0, node.scored.cpu + score.cpu);
        const memory = free(node.allocatable['memory'] ?? 0, node.scored.memory + score.memory);
        return Math.floor((cpu + memory) / 2);
      },
    };
  },
};

/** Prefers nodes on which cpu and memory would be used to the same degree. */
export const nodeResourcesBalancedAllocation: Plugin = {
  name: 'NodeResourcesBalancedAllocation',
  weight: 1,
  events: [],
  prepare({ requests }) {
    // A pod without requests changes no balance.
    if (!requests['cpu'] && !requests['memory']) return undefined;
    return {
      score(node) {
        const used = (name: string) => {
          const has = node.allocatable[name] ?? 0;
          return has > 0 ? Math.min(1, ((node.requested[name] ?? 0) + (requests[name] ?? 0)) / has) : 0;
        };
        return Math.floor((1 - Math.abs(used('cpu') - used('memory')) / 2) * MAX_SCORE);
      },
    };
  },
};
