import { firstCluster } from './cluster.steps.ts';

firstCluster();
