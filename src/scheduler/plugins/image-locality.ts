import { MAX_SCORE, type Plugin } from '../framework.ts';
import type { NodeInfo } from '../node-info.ts';

const MB = 1024 * 1024;
/** Below this much that need not be pulled there is no difference; above the other (for each container) there is no more. */
const MIN = 23 * MB;
const MAX_PER_CONTAINER = 1000 * MB;

/** Prefers nodes that have the pod's images. An image counts by the share of nodes that have it, so that one node does not draw all. */
export const imageLocality: Plugin = {
  name: 'ImageLocality',
  weight: 1,
  events: [],
  prepare({ pod }) {
    const containers = [...(pod.spec.initContainers ?? []), ...pod.spec.containers];
    const images = containers.map((c) => withTag(c.image ?? ''));
    const shares = new Map<string, number>();
    return {
      preScore(nodes: NodeInfo[]) {
        for (const image of images) shares.set(image, nodes.filter((n) => n.images.has(image)).length / nodes.length);
        return images.some((image) => shares.get(image)! > 0);
      },
      score(node) {
        const bytes = images.reduce((sum, image) => sum + (node.images.get(image) ?? 0) * (shares.get(image) ?? 0), 0);
        const max = MAX_PER_CONTAINER * containers.length;
        return Math.floor((MAX_SCORE * (Math.min(Math.max(bytes, MIN), max) - MIN)) / (max - MIN));
      },
    };
  },
};

/** A name without tag or digest means latest. */
const withTag = (image: string) => (image.lastIndexOf(':') <= image.lastIndexOf('/') && !image.includes('@') ? `${image}:latest` : image);
