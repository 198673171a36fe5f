import { tolerates, untolerated } from '../../controllers/node-matching.ts';
import { normalizeByMax, type Plugin } from '../framework.ts';

const UNSCHEDULABLE = { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' };

/** spec.unschedulable (`kubectl cordon`), unless the pod tolerates the taint that stands for it. */
export const nodeUnschedulable: Plugin = {
  name: 'NodeUnschedulable',
  events: ['NodeAdd', 'NodeTaint'],
  prepare({ pod }) {
    if (pod.spec.tolerations?.some((t) => tolerates(t, UNSCHEDULABLE))) return undefined;
    return { filter: (node) => (node.node!.spec.unschedulable ? { reasons: ['node(s) were unschedulable'], resolvable: false } : undefined) };
  },
};

/** A pod that names its node goes there. */
export const nodeName: Plugin = {
  name: 'NodeName',
  events: ['NodeAdd'],
  prepare({ pod }) {
    const wanted = pod.spec.nodeName;
    if (!wanted) return undefined;
    return {
      filter: (node) => (node.name === wanted ? undefined : { reasons: ["node(s) didn't match the requested node name"], resolvable: false }),
    };
  },
};

/** Taints that the pod does not tolerate; those with PreferNoSchedule only cost score. */
export const taintToleration: Plugin = {
  name: 'TaintToleration',
  weight: 3,
  events: ['NodeAdd', 'NodeTaint'],
  prepare({ pod }) {
    const { tolerations } = pod.spec;
    const soft = (tolerations ?? []).filter((t) => !t.effect || t.effect === 'PreferNoSchedule');
    return {
      filter(node) {
        const taint = untolerated(node.node!.spec.taints, tolerations, ['NoSchedule', 'NoExecute']);
        return taint && { reasons: ['node(s) had untolerated taint(s)'], resolvable: false };
      },
      score: (node) =>
        (node.node!.spec.taints ?? []).filter((taint) => taint.effect === 'PreferNoSchedule' && !soft.some((t) => tolerates(t, taint))).length,
      normalize: (scores) => normalizeByMax(scores, true),
    };
  },
};

/** Host ports that are taken. */
export const nodePorts: Plugin = {
  name: 'NodePorts',
  events: ['NodeAdd', 'AssignedPodDelete'],
  prepare({ hostPorts }) {
    if (hostPorts.length === 0) return undefined;
    const any = (ip: string) => ip === '0.0.0.0' || ip === '::';
    return {
      filter(node) {
        const taken = node.ports.some((used) =>
          hostPorts.some((p) => p.port === used.port && p.protocol === used.protocol && (p.ip === used.ip || any(p.ip) || any(used.ip))),
        );
        return taken ? { reasons: ["node(s) didn't have free ports for the requested pod ports"], resolvable: true } : undefined;
      },
    };
  },
};
