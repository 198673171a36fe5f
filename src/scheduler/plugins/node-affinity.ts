import { nodeTermMatches, podMayRunByAffinity } from '../../controllers/node-matching.ts';
import { normalizeByMax, type Plugin } from '../framework.ts';

/** spec.nodeSelector and node affinity. */
export const nodeAffinity: Plugin = {
  name: 'NodeAffinity',
  weight: 2,
  events: ['NodeAdd', 'NodeLabel'],
  prepare({ pod }) {
    const affinity = pod.spec.affinity?.nodeAffinity;
    const preferred = affinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [];
    const required = !!pod.spec.nodeSelector || !!affinity?.requiredDuringSchedulingIgnoredDuringExecution;
    if (!required && preferred.length === 0) return undefined;
    return {
      filter: required
        ? (node) =>
            podMayRunByAffinity(pod, node.node!) ? undefined : { reasons: ["node(s) didn't match Pod's node affinity/selector"], resolvable: false }
        : undefined,
      preScore: () => preferred.length > 0,
      score: (node) => preferred.reduce((sum, { weight, preference }) => sum + (nodeTermMatches(preference, node.node!) ? weight : 0), 0),
      normalize: (scores) => normalizeByMax(scores, false),
    };
  },
};
