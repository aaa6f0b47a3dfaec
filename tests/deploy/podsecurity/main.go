// Command podsecurity is Kubernetes' own judge of pods: it reads pod specs, a JSON list on standard
// input, and prints what the Pod Security Standard "restricted" forbids in each, a line a pod.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

func main() {
	var pods []corev1.PodSpec
	if err := json.NewDecoder(os.Stdin).Decode(&pods); err != nil {
		fmt.Fprintln(os.Stderr, "podsecurity:", err)
		os.Exit(1)
	}
	judge, err := policy.NewEvaluator(policy.DefaultChecks())
	if err != nil {
		fmt.Fprintln(os.Stderr, "podsecurity:", err)
		os.Exit(1)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for i := range pods {
		var forbidden []string
		for _, result := range judge.EvaluatePod(restricted, &metav1.ObjectMeta{}, &pods[i]) {
			if !result.Allowed {
				forbidden = append(forbidden, result.ForbiddenReason+" "+result.ForbiddenDetail)
			}
		}
		fmt.Println(strings.Join(forbidden, "; "))
	}
}
