import { onLocalstack } from './elsewhere.ts';
import { firstCluster } from './cluster.steps.ts';

firstCluster(onLocalstack);
