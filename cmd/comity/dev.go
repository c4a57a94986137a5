package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/comity-im/comity/internal/devcert"
)

func newDev() *cobra.Command {
	cmd := &cobra.Command{Use: "dev", Short: "Help with trials on one machine or a private network"}
	cmd.AddCommand(newDevCerts())
	return cmd
}

func newDevCerts() *cobra.Command {
	var domains []string
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "certs --domain a.example",
		Short: "Make throwaway TLS certificates for providers",
		Long: `Certs makes a root authority in a folder, unless there is one, and with it a
certificate for each domain. They last 30 days and are not for production: the
root's key lies beside them.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			authority, err := devcert.New(dir, time.Now())
			if err != nil {
				return err
			}
			type issued struct {
				Domain      string `json:"domain"`
				Certificate string `json:"certificate"`
				Key         string `json:"key"`
			}
			result := struct {
				Roots        string   `json:"roots"`
				Certificates []issued `json:"certificates"`
			}{Roots: authority.RootFile()}
			for _, domain := range domains {
				cert, key, err := authority.Issue(domain)
				if err != nil {
					return usage(err)
				}
				result.Certificates = append(result.Certificates, issued{domain, cert, key})
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), result)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "roots        %s\n", result.Roots)
			for _, c := range result.Certificates {
				fmt.Fprintf(cmd.OutOrStdout(), "certificate  %s\nkey          %s\n", c.Certificate, c.Key)
			}
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&domains, "domain", nil, "a provider's domain; may be repeated")
	_ = cmd.MarkFlagRequired("domain")
	cmd.Flags().StringVar(&dir, "dir", "certificates", "folder for the files")
	_ = cmd.MarkFlagDirname("dir")
	jsonFlag(cmd, &asJSON)
	return cmd
}
